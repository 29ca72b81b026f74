import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The policy of DecideTest in whole passes, with real processes. */
class PolicyTest {
    @TempDir Path folder;
    private TestFolder home;
    private final MutableClock clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));

    @BeforeEach void open() {
        home = new TestFolder(folder);
        home.clock = clock;
    }

    private Run passAfter(Duration time) {
        clock.add(time);
        return home.watchdog("--json");
    }

    private Object of(Run run, String watch, String field) {
        for (Object each : (List<?>) run.json().get("watches"))
            if (((Map<?, ?>) each).get("name").equals(watch)) return ((Map<?, ?>) each).get(field);
        throw new AssertionError("no " + watch + " in " + run);
    }

    private boolean noOutputOfCommands() {
        return home.state().toFile().list((folder, name) -> name.startsWith("run-")).length == 0;
    }

    private int restartsLeft(String watch) {
        return (int) of(home.watchdog("status", "--json"), watch, "restartsLeft");
    }

    @Test void aRestartThatDoesNotRunDoesNotCount() {
        home.rules("""
            deadline 3.seconds
            for (n in 1..6) watch("w$n") {
                command 'false'
                attempts 1
                within 1.second
                restart { run "sh -c 'echo w$n >> ran; sleep 1'" }
            }
            """);
        passAfter(Duration.ZERO).exits(1);
        List<String> first = home.lines("ran");
        assertTrue(first.size() < 6, "the deadline came first: " + first);
        for (int n = 1; n <= 6; n++)
            assertEquals(first.contains("w" + n) ? 2 : 3, restartsLeft("w" + n), "w" + n + " of " + first);

        passAfter(Duration.ofMinutes(5));
        List<String> second = home.lines("ran").subList(first.size(), home.lines("ran").size());
        assertFalse(first.contains(second.get(0)), "the next pass goes on where this one ended: " + second);
        Wait.until("the last commands to end", () -> noOutputOfCommands());
    }

    /** Each is healthy only when the remedy of another one has run. */
    @Test void servicesAreWaitedForTogether() {
        home.rules("""
            for (n in 1..6) watch("w$n") {
                command "test -e w${7 - n}"
                attempts 1
                restart { run "touch w$n" }
            }
            """);
        Run run = passAfter(Duration.ZERO).exits(0);
        for (int n = 1; n <= 3; n++) assertEquals(true, of(run, "w" + n, "healed"), run.out());
    }

    @Test void aBlockMaySayThatItTakesNoArgument() {
        home.rules("""
            watch('a') { ->
                command 'test -e up'
                attempts 1
                healthy { -> status == 0 }
                restart { -> run 'touch up' }
            }
            """);
        assertEquals(true, of(passAfter(Duration.ZERO).exits(0), "a", "healed"));
    }

    /** Or a pass that met its deadline would leave a service that it has stopped. */
    @Test void whatIsStoppedIsStartedAlsoAfterTheDeadline() {
        home.rules("""
            deadline 2.seconds
            watch('slow') {
                command 'false'
                attempts 1
                restart { pause 1.minute; start 'touch started'; run 'touch ran' }
            }
            """);
        assertEquals("restarted", of(passAfter(Duration.ZERO), "slow", "did"));
        Wait.until("the start", () -> Files.exists(folder.resolve("started")));
        assertFalse(Files.exists(folder.resolve("ran")));
    }

    @Test void withinGoesOnInTheNextPass() throws Exception {
        home.rules("""
            deadline 2.seconds
            watch('slow') {
                command 'test -e up'
                attempts 1
                within 10.minutes
                restart { run 'sh -c "echo now >> restarts"' }
            }
            """);
        assertEquals("restarted", of(passAfter(Duration.ZERO), "slow", "did"));
        assertEquals("held", of(passAfter(Duration.ofMinutes(5)), "slow", "did"));
        Files.createFile(folder.resolve("up"));
        assertEquals("healthy", of(passAfter(Duration.ofMinutes(1)), "slow", "verdict"));
        assertEquals(List.of("now"), home.lines("restarts"));
        home.watchdog("status").says("(helped)");
    }

    @Test void theLimitOfASharedRemedyCountsForAllWatchesThatNameIt() {
        home.rules("""
            def tunnel = restart { run 'sh -c "echo now >> restarts"' }
            for (name in ['a', 'b', 'c']) watch(name) {
                command "test -e $name"
                attempts 1
                within 1.millisecond
                restart tunnel
            }
            """);
        home.file("b", "").file("c", "");
        for (int pass = 0; pass < 4; pass++) passAfter(Duration.ofMinutes(5));
        assertEquals(3, home.lines("restarts").size());
        folder.resolve("b").toFile().delete();
        assertEquals("gave_up", of(passAfter(Duration.ofMinutes(5)), "b", "did"));
        assertEquals(3, home.lines("restarts").size());
    }

    @Test void aPassThatCouldJudgeNothingDoesNotPingTheSwitch() throws Exception {
        List<String> pings = new CopyOnWriteArrayList<>();
        TestServer.Handler answer = (path, body) -> {
            pings.add(path);
            return new TestServer.Answer(200, "ok");
        };
        try (TestServer server = new TestServer(answer)) {
            home.rules("""
                heartbeat '%s'
                watch('internet') { command 'true'; healthy { certificate.expiresIn > 1.day } }
                watch('plex') { command 'false'; attempts 1; needs 'internet' }
                """.formatted(server.url()));
            passAfter(Duration.ZERO).exits(3);
            assertEquals(List.of(), pings);
            home.rules("heartbeat '%s'\nwatch('a') { command 'true' }".formatted(server.url()));
            passAfter(Duration.ofMinutes(5)).exits(0);
            assertEquals(List.of("/"), pings);
        }
    }

    @Test void aShellThatTookTooLongDoesNothingMore() throws Exception {
        home.rules("""
            watch('a') {
                command 'false'
                attempts 1
                within 1.millisecond
                restart { sh 'sleep 15; echo AFTER >> ran', timeout: 100.milliseconds }
            }
            """);
        for (int i = 0; i < 3; i++) passAfter(Duration.ofMinutes(5)).exits(1);
        Thread.sleep(1_500);
        assertEquals(List.of(), home.lines("ran"));
    }

    // ---- conditions that cannot be evaluated --------------------------------------------------

    private static final String RULES = """
        watch('a') {
            url '%s'
            attempts 1
            within 1.millisecond
            healthy { header('X').contains('1') }
            restart(when: { certificate.expiresIn < 14.days }) { run 'touch wrong' }
            restart { run 'touch restarted' }
        }
        """;

    private Run passAgainst(int status, String rules) {
        try (TestServer server = new TestServer((path, body) -> new TestServer.Answer(status, "x"))) {
            home.rules(rules.formatted(server.url()));
            return passAfter(Duration.ofMinutes(5));
        }
    }

    @Test void onABadResponseItIsNotMetAndTheServiceIsRestarted() {
        Run run = passAgainst(502, RULES).exits(1);
        assertTrue(of(run, "a", "reason").toString().contains("; got HTTP 502"), run.out());
        assertTrue(of(run, "a", "reason").toString().contains("; of `when`, a condition could not be evaluated "
            + "(line 6 of the rules): no certificate: the URL is not https"), run.out());
        assertTrue(Files.exists(folder.resolve("restarted")), run.out());
        assertFalse(Files.exists(folder.resolve("wrong")), run.out());
    }

    @Test void onAGoodResponseItIsInconclusive() {
        assertEquals("inconclusive", of(passAgainst(200, RULES).exits(3), "a", "verdict"));
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    @Test void withoutAResponseACauseThatCannotBeEvaluatedDoesNotMatch() {
        home.rules(RULES.formatted("http://127.0.0.1:1/"));
        passAfter(Duration.ZERO).exits(1);
        assertTrue(Files.exists(folder.resolve("restarted")));
        assertFalse(Files.exists(folder.resolve("wrong")));
    }

    /** The pause begins after the pass has looked for it: while the service is being checked. */
    @Test void aPauseThatBeginsInMidPassPreventsTheRestart(@TempDir Path own) {
        TestFolder here = new TestFolder(own);
        TestServer.Handler pausing = (path, body) -> {
            here.watchdog("pause", "plex");
            return new TestServer.Answer(500, "");
        };
        try (TestServer server = new TestServer(pausing)) {
            here.rules("watch('plex') { url '" + server.url() + "'; attempts 1; "
                + "restart { run 'touch restarted' } }");
            here.watchdog().exits(1).says("paused meanwhile");
            assertFalse(own.resolve("restarted").toFile().exists());
        }
    }
}
