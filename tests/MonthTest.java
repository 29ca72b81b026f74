import static org.junit.jupiter.api.Assertions.assertEquals;

import com.sun.net.httpserver.HttpServer;
import groovy.json.JsonSlurper;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import okhttp3.tls.HandshakeCertificates;
import okhttp3.tls.HeldCertificate;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A month in a house with a Plex, a photo album, a weather station and what comes and goes. What its owner
 * reads on the phone is tests/month.txt: read it, and ask whether you would want it so. When it differs, the
 * new text is in month.txt in the temp folder. After each event there is a pass each 5 minutes for 75
 * minutes, then one an hour for six hours, then one each six hours.
 */
class MonthTest {
    private static final TimeZone ZONE = TimeZone.getDefault();

    @TempDir Path folder;
    private final MutableClock clock = new MutableClock(Instant.parse("2026-03-01T00:00:00Z"));
    private Instant lastEvent = clock.instant().minus(Duration.ofDays(2));
    private final List<String> story = new ArrayList<>();
    private final Map<String, String> rules = new LinkedHashMap<>();
    private Service internet, plex, photos, weather, tunnel;
    private final List<AutoCloseable> open = new ArrayList<>();
    private TestFolder home;
    private int messages, passes;
    private boolean phoneIsAway;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    @AfterEach void close() throws Exception {
        for (AutoCloseable each : open) each.close();
        if (Files.exists(folder.resolve("backup.pid"))) ProcessHandle.of(Long.parseLong(
            home.lines("backup.pid").get(0))).ifPresent(ProcessHandle::destroy); // it ends its sleep too
    }

    @Test void theMonthReadsAsAReasonablePersonWantsIt() throws Exception {
        moveIn();
        firstWeek();
        secondWeek();
        thirdWeek();
        lastDays();
        story.add("");
        story.add(("Restarts: %d of plex, %d of photos, %d of weather, %d of the tunnel. Messages: %d in %d "
            + "passes.").formatted(plex.restarts(), photos.restarts(), weather.restarts(), tunnel.restarts(),
            messages, passes));
        String lived = String.join("\n", story).replaceAll("http://127.0.0.1:\\d+/", "http://…/")
            .replaceAll("\\(pid \\d+\\)", "(pid …)").replaceAll("in \\d+ ms[.]", "in … ms.") + "\n";
        String golden = Files.readString(golden());
        Path now = Path.of(System.getProperty("java.io.tmpdir"), "month.txt");
        if (!golden.equals(lived)) Files.writeString(now, lived);
        assertEquals(golden, lived, "the month has changed; if it reads better, copy " + now);
    }

    private void firstWeek() throws Exception {
        at("02T03:00", "Plex's server dies in the night", plex::stop);
        at("03T10:00", "Plex is updated: for an hour it is away, and no restart helps",
            () -> noRestartHelps(plex, "plex"));
        at("03T11:00", "the update is done", () -> comesBack(plex, "plex"));
        at("05T04:00", "the album crashes; at its start it builds an index; its rule allows an hour", () -> {
            noRestartHelps(photos, "photos");
            home.rules("deadline 4.seconds\n"
                + rules().replace("within 99.milliseconds", "within 1.hour"));
        });
        at("05T04:40", "the index is ready", () -> {
            comesBack(photos, "photos");
            write();
        });
        at("06T09:00", "an edit breaks the rules",
            () -> home.rules(rules().replace("restart {", "restrat {")));
        at("06T11:00", "Plex dies meanwhile", plex::stop);
        at("06T12:00", "the edit is corrected", this::write);
        at("07T00:00", "a paused night: the owner works on Plex", () -> {
            home.watchdog("pause", "plex", "--for", "8h");
            noRestartHelps(plex, "plex");
        });
        at("07T07:00", "the work is done", () -> comesBack(plex, "plex"));
    }

    private void secondWeek() throws Exception {
        at("09T12:00", "for four hours the album fails each quarter of an hour; restarts help", null);
        for (int quarter = 0; quarter < 16; quarter++) {
            photos.stop();
            passUntil(clock.instant().plus(Duration.ofMinutes(15)));
        }
        at("09T16:00", "the album's memory is replaced", null);
        at("11T08:00", "Plex crashes within five minutes of each start, until the owner is home", null);
        for (int pass = 0; pass < 60; pass++) {
            plex.stop();
            passUntil(clock.instant().plus(Duration.ofMinutes(5)));
        }
        at("11T13:00", "the owner frees the full disk, and starts Plex", plex::start);
        at("13T08:00", "the weather station wants a password now, which no restart can change", () -> {
            weather.status = 401;
            weather.body = "<html><title>Login</title>";
            noRestartHelps(weather, "weather");
        });
        at("15T20:00", "the owner corrects the rule's password", () -> comesBack(weather, "weather"));
        weather.status = 530;
        weather.body = "error code: 1033";
    }

    private void thirdWeek() throws Exception {
        at("16T08:00", "the mail server is watched now; its certificate runs out in ten days",
            () -> watch("mail", mail(Duration.ofDays(10))));
        at("17T20:00", "the certificate is renewed", () -> watch("mail", mail(Duration.ofDays(90))));
        at("19T09:00", "new firmware of the weather station sends other headers than the rule asks for",
            () -> home.rules(rules().replace("status == 200 }  // weather",
                "header('X-Station').size() > 1 }")));
        at("19T14:00", "the owner corrects the rule", this::write);
        at("20T15:00", "a backup server is set up, and drilled", () -> watch("backup", """
            watch('backup') {
                command 'test -e backup.up'
                attempts 1
                restart {
                    stop 'tests/backup'
                    start 'tests/backup'
                }
            }
            """));
        at("20T16:00", "the drill", () -> home.watchdog("drill", "backup", "--yes").exits(0));
        at("20T17:00", "the backup server is moved to another house", () -> watch("backup", ""));
    }

    private void lastDays() throws Exception {
        at("22T18:00", "forty names are published through one tunnel", () -> watch("names", """
            def tunnel = restart { run 'tests/heal tunnel' }
            for (n in 1..40) watch("name$n") {
                url '%s'
                attempts 1
                needs 'internet'
                within 99.milliseconds
                healthy { status == 200 }
                restart tunnel
            }
            """.formatted(tunnel.url())));
        at("23T02:00", "the tunnel dies", tunnel::stop);
        at("24T07:00", "the provider is away for a day; the phone is reached by another way", () -> {
            internet.stop();
            tunnel.stop();
            plex.stop();
        });
        at("25T09:00", "the provider is back", internet::start);
        at("26T20:00", "the names are given up", () -> watch("names", ""));
        at("27T16:00", "the phone's service has trouble, and Plex dies", () -> {
            phoneIsAway = true;
            plex.stop();
        });
        at("27T18:00", "the phone's service is back", () -> phoneIsAway = false);
        at("29T10:00", "the weather station is sold: its power is off",
            () -> noRestartHelps(weather, "weather"));
        at("29T17:00", "its watch is taken out of the rules", () -> watch("weather", ""));
        passUntil(Instant.parse("2026-04-01T00:00:00Z"));
    }

    /** {@code event}: null: none at that moment. */
    private void at(String time, String text, Event event) throws Exception {
        passUntil(Instant.parse("2026-03-" + time + ":00Z"));
        synchronized (this) {
            if (!story.isEmpty()) story.add("");
            story.add(time() + "  " + text);
        }
        lastEvent = clock.instant();
        if (event != null) event.happens();
    }

    private interface Event { void happens() throws Exception; }

    private void passUntil(Instant end) {
        for (Instant pass = clock.instant(); pass.isBefore(end); pass = pass.plus(interval(pass))) {
            if (pass.isAfter(clock.instant())) clock.add(Duration.between(clock.instant(), pass));
            home.watchdog("--quiet");
            passes++;
        }
        clock.add(Duration.between(clock.instant(), end));
    }

    private Duration interval(Instant now) {
        if (now.isBefore(lastEvent.plus(Duration.ofMinutes(75)))) return Duration.ofMinutes(5);
        return Duration.ofHours(now.isBefore(lastEvent.plus(Duration.ofHours(6))) ? 1 : 6);
    }

    private void moveIn() throws IOException {
        internet = started("internet");
        plex = started("plex");
        photos = started("photos");
        weather = started("weather");
        tunnel = started("tunnel");
        home = new TestFolder(folder);
        home.clock = clock;
        Files.createDirectory(folder.resolve("tests"));
        home.script("tests/heal", "echo now >> $1.restarts; test -e $1.stubborn || touch $1.up");
        home.script("tests/backup", "trap 'rm backup.up; kill $!; exit' TERM; echo $$ > backup.pid; "
            + "touch backup.up; sleep 1000 & wait");
        rules.put("top", "notify webhook('http://127.0.0.1:" + phone() + "/')\n");
        rules.put("internet", "watch('internet') { url '" + internet.url() + "'; attempts 1 }\n");
        rules.put("plex", watched("plex", plex, "needs 'internet'"));
        rules.put("photos", watched("photos", photos, ""));
        rules.put("weather", watched("weather", weather, "failures 2; limit 3, per: 1.day; remind 12.hours"));
        write();
    }

    private static String watched(String name, Service service, String more) {
        return """
            watch('%1$s') {
                url '%2$s'
                attempts 1
                within 99.milliseconds
                healthy { status == 200 }  // %1$s
                restart { run 'tests/heal %1$s' }
                %3$s
            }
            """.formatted(name, service.url(), more);
    }

    private String rules() { return String.join("", rules.values()); }
    private void write() { home.rules(rules()); }

    private void watch(String name, String text) {
        rules.put(name, text);
        write();
    }

    private Service started(String name) {
        Service service = new Service(folder, name);
        open.add(service);
        service.start();
        service.whenBack = () -> clock.add(Duration.ofSeconds(20)); // so long does each restart take
        return service;
    }

    /** The port of what the owner reads. */
    private int phone() throws IOException {
        HttpServer phone = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        phone.createContext("/", exchange -> {
            String json = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            if (!phoneIsAway) hears((Map<?, ?>) new JsonSlurper().parseText(json));
            exchange.sendResponseHeaders(phoneIsAway ? 503 : 200, -1);
            exchange.close();
        });
        phone.start();
        open.add(() -> phone.stop(0));
        return phone.getAddress().getPort();
    }

    /** The watch of an https server whose certificate is valid for so long. */
    private String mail(Duration valid) throws IOException {
        Instant now = Instant.now();
        HeldCertificate certificate = new HeldCertificate.Builder().addSubjectAlternativeName("localhost")
            .validityInterval(now.toEpochMilli(), now.plus(valid).plusSeconds(900).toEpochMilli()).build();
        home.file("mail.pem", certificate.certificatePem());
        MockWebServer server = new MockWebServer();
        server.useHttps(new HandshakeCertificates.Builder().heldCertificate(certificate).build()
            .sslSocketFactory());
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                return new MockResponse.Builder().code(200).build();
            }
        });
        server.start();
        open.add(server);
        return """
            watch('mail') {
                url 'https://localhost:%d/'
                trust 'mail.pem'
                attempts 1
                healthy { certificate.expiresIn > 14.days }
                restart { run 'tests/heal mail' }
            }
            """.formatted(server.getPort());
    }

    private synchronized void hears(Map<?, ?> message) {
        messages++;
        story.add(time() + "  * " + message.get("title"));
        for (String line : message.get("text").toString().split("\n")) story.add(" ".repeat(22) + line);
    }

    private String time() { return clock.instant().toString().replace("T", " ").substring(0, 16); }

    private void noRestartHelps(Service service, String name) throws IOException {
        Files.createFile(folder.resolve(name + ".stubborn"));
        service.stop();
    }

    private void comesBack(Service service, String name) throws IOException {
        Files.delete(folder.resolve(name + ".stubborn"));
        service.start();
    }

    /** Beside the sources, wherever the tests were started. */
    private static Path golden() {
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent())
            if (Files.exists(at.resolve("tests/month.txt"))) return at.resolve("tests/month.txt");
        throw new AssertionError("tests/month.txt is not in " + Path.of("").toAbsolutePath() + " or above");
    }
}
