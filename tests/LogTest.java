import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** `watchdog log`, and whether the schedule still runs: what an owner asks after a week away. */
class LogTest {
    private static final String DOWN = "2026-03-01 08:05  plex is down: expected status == 200, but status "
        + "was 530; got 'error code: 1033'. Last seen healthy at 2026-03-01 08:00. Restarting it: ";
    private static final String HEALED = DOWN + "run 'touch plex.up'. "
        + "At 2026-03-01 08:05, 20 s later: plex is healthy again.\n";
    private static final String OPEN = DOWN + "run 'true'. "
        + "At 2026-03-01 08:05, 0 ms later: plex is still down: Found down at 2026-03-01 08:05: expected status "
        + "== 200, but status was 530; got 'error code: 1033'. Ran 'true'. Down for 35 min so far.\n";

    @TempDir Path folder;
    private final MutableClock clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
    private TestFolder home;
    private Service plex;

    @BeforeEach void aHealthyPass() {
        home = new TestFolder(folder);
        home.clock = clock;
        plex = new Service(folder, "plex");
        plex.start();
        plex.whenBack = () -> clock.add(Duration.ofSeconds(20));
        rules("touch plex.up");
        pass();
    }

    @AfterEach void close() { plex.close(); }

    private void rules(String remedy) {
        home.rules("""
            watch('plex') {
                url '%s'
                healthy { status == 200 }
                attempts 1
                within 50.milliseconds
                restart { run '%s' }
            }
            watch('disk') { command 'test ! -e full'; attempts 1 }
            """.formatted(plex.url(), remedy));
    }

    /** One pass, five minutes later. */
    private void pass() {
        home.watchdog();
        clock.add(Duration.ofMinutes(5));
    }

    private Run log(String... args) {
        return home.watchdog(Stream.concat(Stream.of("log"),
            Stream.of(args)).toArray(String[]::new)).exits(0);
    }

    @Test void whenNothingWasDownItSaysSo() {
        assertEquals("nothing was down since 2026-02-22 08:05\n", log().out());
    }

    @Test void anIncidentIsOneLine() {
        plex.stop();
        pass();
        assertEquals(HEALED, log().out());
        clock.add(Incident.OVER);
        pass();
        assertEquals(HEALED, log().out());
    }

    @Test void whatComesAndGoesIsOneIncidentAndEndsWhenItWasLastDown() {
        for (int i = 0; i < 3; i++) {
            plex.stop();
            pass();
        }
        assertEquals(1, log().out().lines().count());
        log().says("5 min later: plex comes and goes. Healthy since 2026-03-01 08:16.\n");
        pass();
        clock.add(Incident.OVER);
        pass();
        log().says(" later: plex is healthy again: Failed 3 times since 2026-03-01 08:05: ");
        assertTrue(log().out().endsWith(" Healthy 11 min later.\n"), log().out());
    }

    @Test void whatIsDownAgainIsDownOnlySinceThen() {
        for (int i = 0; i < 2; i++) {
            plex.stop();
            pass();
        }
        rules("true");
        plex.stop();
        pass();
        clock.add(Duration.ofMinutes(5));
        log().says("At 2026-03-01 08:05, 20 s later: plex is healthy again. At 2026-03-01 08:10, 5 min later: ")
            .says("plex is still down: Failed 3 times since ")
            .says("Ran 'true'. Down again since 2026-03-01 08:15, for 10 min so far.\n");
    }

    @Test void anOpenIncidentSaysHowLongAndIsNeverTooOld() {
        rules("true");
        plex.stop();
        pass();
        clock.add(Duration.ofMinutes(30));
        assertEquals(OPEN, log().out());
        assertEquals(OPEN, log("--since", "5m").out());
    }

    @Test void sinceAndNamesChoose() {
        plex.stop();
        pass();
        clock.add(Duration.ofDays(2));
        home.file("full", "");
        pass();
        assertEquals(List.of("plex", "disk"), down(log()));
        assertEquals(List.of("disk"), down(log("--since", "1d")));
        assertEquals(List.of("plex"), down(log("plex")));
        home.watchdog("log", "plx").exits(2).errs("did you mean 'plex'?");
    }

    private static List<String> down(Run log) {
        return log.out().lines().map(line -> line.replaceFirst(".{16}  (\\w+) .*", "$1")).toList();
    }

    @Test void aWatchThatWasRemovedStaysInTheLog() {
        rules("true");
        plex.stop();
        pass();
        home.rules("watch('disk') { command 'true' }");
        pass();
        log().says("later: plex is no longer watched.\n");
    }

    @Test void programsGetTheMessages() {
        plex.stop();
        pass();
        Map<?, ?> incident = (Map<?, ?>) ((List<?>) log("--json").json().get("incidents")).get(0);
        assertEquals(List.of("down", "healed"), ((List<?>) incident.get("messages")).stream()
            .map(message -> ((Map<?, ?>) message).get("kind")).toList());
        assertEquals(false, incident.get("down"));
    }

    @Test void whatAServerSentStaysOneLine() {
        rules("true");
        home.rules(String.join("\n", home.lines("rules.groovy")).replace("status == 200", "body == 'ok'"));
        plex.body = "<script>\n\u001b[31m\u202e2026-03-01 disk is down";
        plex.stop();
        pass();
        assertEquals(1, log().out().lines().count(), log().out());
        assertFalse(log().out().matches("(?s).*[\\p{Cf}\\p{Cntrl}&&[^\n]].*"), log().out());
    }

    @Test void aCheckAndADryRunLogNothing() throws IOException {
        plex.stop();
        home.watchdog("check").exits(1);
        home.watchdog("--dry-run").exits(1);
        assertFalse(Files.exists(home.state().resolve("incidents.jsonl")));
    }

    @Test void itIsBounded() throws IOException {
        plex.stop();
        pass();
        Path file = home.state().resolve("incidents.jsonl");
        for (int i = 0; i < 3; i++) {
            String line = Files.readString(file).lines().findFirst().orElseThrow() + "\n";
            Files.writeString(file, line.repeat((1 << 20) / line.length() + 1));
            clock.add(Incident.OVER);
            pass();
            plex.stop();
            pass();
        }
        try (var files = Files.newDirectoryStream(home.state(), "incidents*")) {
            long bytes = 0;
            for (Path part : files) bytes += Files.size(part);
            assertTrue(bytes < 5 << 19, bytes + " bytes");
        }
        assertEquals(2, log().out().lines().count());
    }

    // ---- whether the schedule runs ----------------------------------------------------------------------

    @Test void statusSaysWhenThePassIsOverdue() throws IOException {
        assertEquals("last pass 5 min ago", lastPass());
        Files.writeString(home.state().resolve("schedule"), "300\n");
        assertEquals("last pass 5 min ago, expected every 5 min", lastPass());
        clock.add(Duration.ofMinutes(36));
        assertEquals("last pass 41 min ago, expected every 5 min: the schedule is not running it",
            lastPass());
        Map<String, Object> json = home.watchdog("status", "--json").json();
        assertEquals("2026-03-01T08:00:00Z", json.get("lastPass"));
        assertEquals("PT5M", json.get("every"));
        for (String damaged : List.of("", "soon", "-5", "99999999999999999999")) {
            Files.writeString(home.state().resolve("schedule"), damaged);
            assertEquals("last pass 41 min ago", lastPass());
        }
    }

    private String lastPass() {
        return home.watchdog("status").out().lines().filter(line -> line.startsWith("last pass"))
            .findFirst().orElseThrow();
    }

    // ---- uptime -----------------------------------------------------------------------------------------

    /** With two watches 2 MiB are a few weeks of passes. */
    @Test void uptimeOutlivesThePassesThatAreDropped() throws IOException {
        Instant begin = clock.instant().minus(Duration.ofDays(80));
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 400; i++) // 2000 minutes, of which 10 are down
            lines.append("{\"\":").append(begin.plusSeconds(300L * i).getEpochSecond())
                .append(",\"plex\":\"").append(i == 200 ? 'u' : 'h').append("5\"}\n");
        Files.writeString(home.state().resolve("history.old.jsonl"), lines);
        Path history = home.state().resolve("history.jsonl");
        Files.writeString(history, "x".repeat(3 << 19) + "\n" + Files.readString(history));
        String unknown = "unknown in 24 h, unknown in 7 days, unknown in 30 days, ";
        assertEquals(unknown + "99.49 % in 80 days", uptime());
        home.watchdog("disk"); // it drops the passes, also those of plex
        clock.add(Duration.ofMinutes(5));
        pass();
        String known = unknown.replace("unknown", "100 %");
        assertEquals(known + "99.5 % in 80 days", uptime());
        String file = folder.relativize(home.state()) + "/uptime.jsonl";
        assertEquals(3, home.lines(file).size());
    }

    private String uptime() {
        return home.watchdog("status", "plex").out().replaceFirst("(?s).*uptime: (.*?)\n.*", "$1");
    }
}
