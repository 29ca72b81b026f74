import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.List;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import okhttp3.tls.HandshakeCertificates;
import okhttp3.tls.HeldCertificate;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The word `metrics`: a file for the node exporter of Prometheus. */
class MetricsTest {
    @TempDir Path folder;
    private TestFolder home;

    @BeforeEach void rules() {
        home = new TestFolder(folder);
        home.clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
        home.rules("""
            metrics 'watchdog.prom'
            watch('plex') { command 'true' }
            watch('a \\\\"disk"') {
                command 'false'
                attempts 1
                restart { run 'true' }
                within 1.milliseconds
            }
            """);
    }

    private List<String> metrics() { return home.lines("watchdog.prom"); }

    @Test void eachMetricHasItsTypeAndALineForEachWatch() {
        home.watchdog().exits(1);
        String text = String.join("\n", metrics()).replaceAll("(response.*}) .*", "$1 TIME") + "\n";
        assertEquals("""
            # HELP watchdog_healthy 1 if it is healthy.
            # TYPE watchdog_healthy gauge
            watchdog_healthy{watch="plex"} 1
            watchdog_healthy{watch="a \\\\\\"disk\\""} 0
            # HELP watchdog_unhealthy 1 if it is unhealthy.
            # TYPE watchdog_unhealthy gauge
            watchdog_unhealthy{watch="plex"} 0
            watchdog_unhealthy{watch="a \\\\\\"disk\\""} 1
            # HELP watchdog_inconclusive 1 if it is inconclusive.
            # TYPE watchdog_inconclusive gauge
            watchdog_inconclusive{watch="plex"} 0
            watchdog_inconclusive{watch="a \\\\\\"disk\\""} 0
            # HELP watchdog_paused 1 if it is paused.
            # TYPE watchdog_paused gauge
            watchdog_paused{watch="plex"} 0
            watchdog_paused{watch="a \\\\\\"disk\\""} 0
            # HELP watchdog_response_seconds How long the last check took.
            # TYPE watchdog_response_seconds gauge
            watchdog_response_seconds{watch="plex"} TIME
            watchdog_response_seconds{watch="a \\\\\\"disk\\""} TIME
            # HELP watchdog_recent_restarts Restarts in the period of the restart limit.
            # TYPE watchdog_recent_restarts gauge
            watchdog_recent_restarts{watch="plex"} 0
            watchdog_recent_restarts{watch="a \\\\\\"disk\\""} 1
            # HELP watchdog_certificate_expiry_timestamp_seconds When the certificate expires.
            # TYPE watchdog_certificate_expiry_timestamp_seconds gauge
            watchdog_certificate_expiry_timestamp_seconds{watch="plex"} NaN
            watchdog_certificate_expiry_timestamp_seconds{watch="a \\\\\\"disk\\""} NaN
            # HELP watchdog_last_pass_timestamp_seconds When it ended.
            # TYPE watchdog_last_pass_timestamp_seconds gauge
            watchdog_last_pass_timestamp_seconds{watch="plex"} 1772352000
            watchdog_last_pass_timestamp_seconds{watch="a \\\\\\"disk\\""} 1772352000
            """, text);
    }

    @Test void theCertificateOfAServerHasItsDate() throws IOException {
        String localhost = InetAddress.getLoopbackAddress().getHostName();
        var held = new HeldCertificate.Builder().addSubjectAlternativeName(localhost).build();
        home.file("ca.pem", held.certificatePem());
        try (MockWebServer server = new MockWebServer()) {
            var tls = new HandshakeCertificates.Builder().heldCertificate(held).build();
            server.useHttps(tls.sslSocketFactory());
            server.enqueue(new MockResponse.Builder().build());
            server.start();
            home.clock = java.time.Clock.systemUTC();
            home.rules("metrics 'watchdog.prom'\nwatch('plex') { url '%s'; trust 'ca.pem'; attempts 1 }"
                .formatted(server.url("/"))).watchdog().exits(0);
        }
        assertTrue(metrics().contains("watchdog_certificate_expiry_timestamp_seconds{watch=\"plex\"} "
            + held.certificate().getNotAfter().getTime() / 1000), metrics().toString());
    }

    @Test void everybodyMayReadItAndNothingIsLeftBesideIt() throws IOException {
        home.watchdog();
        home.watchdog();
        assertEquals("rw-r--r--", PosixFilePermissions.toString(
            Files.getPosixFilePermissions(folder.resolve("watchdog.prom"))));
        try (var files = Files.newDirectoryStream(folder, ".watchdog*")) {
            assertFalse(files.iterator().hasNext());
        }
    }

    /** Of some watches the file would lose the others. */
    @Test void onlyAPassOverAllWatchesWritesIt() {
        home.watchdog("plex").exits(0);
        home.watchdog("check").exits(1);
        home.watchdog("--dry-run").exits(1);
        assertEquals(List.of(), metrics());
    }

    @Test void aFileThatCannotBeWrittenIsSaidAndStopsNothing() throws IOException {
        home.rules(String.join("\n", home.lines("rules.groovy")).replace("'watchdog", "'no/watchdog"));
        home.watchdog().exits(4).errs("watchdog: " + folder + "/no/watchdog.prom cannot be written (");
        assertTrue(Files.exists(home.state().resolve("memory.json")));
        home.watchdog("status").says("run 'true' (did not help)");
    }
}
