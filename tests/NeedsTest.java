import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * `needs`: while a dependency is down, the watches that need it are not judged. Each watch here checks
 * for a file, which its remedy creates: `internet` is up while a file of that name exists.
 */
class NeedsTest {
    private static final String PLEX = """
        watch('plex') {
            command 'test -e plex'
            attempts 1
            needs 'internet'
            restart { run 'touch plex' }
            within 200.milliseconds
        }
        """;
    private static final String INTERNET = """
        watch('internet') {
            command 'test -e internet'
            attempts 1
        }
        """;
    private static final String NOTIFY = """
        notify command('sh -c "echo $WATCHDOG_WATCH $WATCHDOG_EVENT >> messages"')
        """;
    /** What people read, by situation. */
    private static final Map<String, String> SENTENCES = Map.of(
        "down", "expected exit code 0, but it was 1",
        "internet down", "needs internet, which is unhealthy",
        "internet unclear", "needs internet, which is inconclusive",
        "dns down", "needs dns, which is unhealthy",
        "plex unclear", "needs plex, which is inconclusive",
        "below", "needs 'b' is not the name of a watch above this one",
        "itself", "needs 'c' is not the name of a watch above this one; did you mean 'a'?",
        "unknown",
            "needs 'internt' is not the name of a watch above this one; did you mean 'internet'?");

    @TempDir Path folder;
    private TestFolder home;

    @BeforeEach
    void open() { home = new TestFolder(folder); }

    // ---- blocked ------------------------------------------------------------------------------------------

    @Test
    void whileTheDependencyIsUnhealthyNothingIsRestartedAndOnlyTheDependencyIsReported() throws IOException {
        Run run = home.rules(NOTIFY + INTERNET + PLEX).watchdog();
        assertEquals(1, run.exit(), run.toString());
        assertEquals("""
            internet  unhealthy    %s
            plex      inconclusive %s
            """.formatted(SENTENCES.get("down"), SENTENCES.get("internet down")), run.out());
        assertFalse(up("plex"));
        assertEquals(List.of("internet down"), messages());
    }

    @Test
    void aWatchNamedAloneIsCheckedWithItsDependencies() {
        Run run = home.rules(INTERNET + PLEX + """
            watch('other') { command 'false' }
            """).watchdog("check", "plex", "--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", result(run, "plex"));
        assertEquals(List.of("internet", "plex"), results(run).keySet().stream().sorted().toList());
    }

    @Test
    void anInconclusiveDependencyBlocksToo() {
        Run run = home.rules("""
            watch('internet') {
                command 'true'
                healthy { certificate.expiresIn > 1.day }
            }
            """ + PLEX).watchdog("--json");
        assertEquals(3, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", result(run, "plex"));
        assertEquals(SENTENCES.get("internet unclear"), results(run).get("plex").get("reason"));
        assertFalse(up("plex"));
    }

    @Test
    void aDryRunNamesTheDependencyAndNoRestart() {
        Run run = home.rules(INTERNET + PLEX).watchdog("--dry-run");
        assertEquals(1, run.exit(), run.toString());
        assertTrue(run.out().contains("plex      inconclusive " + SENTENCES.get("internet down") + "\n"),
            run.out());
        assertFalse(run.out().contains("would restart"), run.out());
    }

    @Test
    void aHealthyWatchIsHealthyThoughItsDependencyIsNot() throws IOException {
        bring("plex");
        Run run = home.rules(INTERNET + PLEX).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("healthy, nothing", result(run, "plex"));
    }

    // ---- several ------------------------------------------------------------------------------------------

    @Test
    void oneUnhealthyDependencyOfSeveralBlocksAndIsNamed() throws IOException {
        bring("internet");
        home.rules(INTERNET + """
            watch('dns') { command 'test -e dns'; attempts 1 }
            watch('plex') {
                command 'test -e plex'
                attempts 1
                needs 'internet', 'dns'
                restart { run 'touch plex' }
            }
            """);
        Run blocked = home.watchdog("--json");
        assertEquals(SENTENCES.get("dns down"), results(blocked).get("plex").get("reason"));
        assertFalse(up("plex"));
        bring("dns");
        Run free = home.watchdog("--json");
        assertEquals(0, free.exit(), free.toString());
        assertEquals("healthy, restarted", result(free, "plex"));
    }

    @Test
    void aBlockedDependencyBlocksToo() {
        Run run = home.rules(INTERNET + PLEX + """
            watch('library') { command 'false'; attempts 1; needs 'plex'; restart { run 'touch library' } }
            """).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", result(run, "library"));
        assertEquals(SENTENCES.get("plex unclear"), results(run).get("library").get("reason"));
        assertFalse(up("library"));
    }

    // ---- unblocked in the same pass -----------------------------------------------------------------------

    @Test
    void aHealedDependencyUnblocksItsDependentsInTheSamePass() {
        Run run = home.rules("""
            watch('internet') {
                command 'test -e internet'
                attempts 1
                restart { run 'touch internet' }
            }
            """ + PLEX + """
            watch('library') { command 'test -e plex'; attempts 1; needs 'plex' }
            """).watchdog("--json");
        assertEquals(0, run.exit(), run.toString());
        assertEquals("healthy, restarted", result(run, "internet"));
        assertEquals("healthy, restarted", result(run, "plex"));
        assertEquals("healthy, nothing", result(run, "library"));
    }

    @Test
    void aDependencyThatIsNotHealedKeepsItsDependentsBlocked() {
        Run run = home.rules("""
            watch('internet') {
                command 'test -e internet'
                attempts 1
                within 200.milliseconds
                restart { run 'true' }
            }
            """ + PLEX).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("unhealthy, restarted", result(run, "internet"));
        assertEquals("inconclusive, blocked", result(run, "plex"));
        assertFalse(up("plex"));
    }

    // ---- between passes -----------------------------------------------------------------------------------

    @Test
    void blockedPassesDoNotCountAsFailures() throws IOException {
        home.rules(INTERNET + PLEX.replace("attempts 1", "attempts 1; failures 2"));
        home.watchdog();
        home.watchdog();
        bring("internet");
        assertEquals("unhealthy, held", result(home.watchdog("--json"), "plex"),
            "the first failure of its own");
        assertEquals("healthy, restarted", result(home.watchdog("--json"), "plex"), "the second");
    }

    @Test
    void anIncidentThatIsBlockedMeanwhileStaysOneIncident() throws IOException {
        home.rules(NOTIFY + INTERNET + """
            watch('plex') { command 'test -e plex'; attempts 1; needs 'internet' }
            """);
        bring("internet");
        home.watchdog();
        Files.delete(folder.resolve("internet"));
        home.watchdog();
        bring("internet");
        home.watchdog();
        bring("plex");
        assertEquals(0, home.watchdog().exit());
        assertEquals(List.of("plex down", "internet down", "internet recovered", "plex recovered"),
            messages());
    }

    @Test
    void aPausedDependencyBlocksNothing() {
        home.rules(INTERNET + PLEX);
        assertEquals(0, home.watchdog("pause", "internet").exit());
        Run run = home.watchdog("--json");
        assertEquals(0, run.exit(), run.toString());
        assertEquals("paused, paused", result(run, "internet"));
        assertEquals("healthy, restarted", result(run, "plex"));
    }

    @Test
    void aPausedWatchIsPausedAndNotBlocked() {
        home.rules(INTERNET + PLEX);
        assertEquals(0, home.watchdog("pause", "plex").exit());
        Run run = home.watchdog("--json");
        assertEquals("paused, paused", result(run, "plex"));
        assertFalse(up("plex"));
    }

    // ---- mistakes -----------------------------------------------------------------------------------------

    @Test
    void aDependencyStandsAboveTheWatchThatNeedsIt() {
        Run run = home.rules("""
            watch('a') { command 'true'; needs 'b' }
            watch('b') { command 'true'; needs 'a' }
            watch('c') { command 'true'; needs 'c' }
            watch('internet') { command 'true' }
            watch('plex') { command 'true'; needs 'internt' }
            """).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        String mistakes =
            run.err().lines().filter(line -> line.startsWith("rules.groovy:")).map(line -> line + "\n")
            .collect(Collectors.joining());
        assertEquals("""
            rules.groovy:1: %s
            rules.groovy:3: %s
            rules.groovy:5: %s
            """.formatted(SENTENCES.get("below"), SENTENCES.get("itself"), SENTENCES.get("unknown")),
            mistakes);
    }

    private boolean up(String service) { return Files.exists(folder.resolve(service)); }

    private void bring(String service) throws IOException { Files.createFile(folder.resolve(service)); }

    /** The messages, in the order in which they came. */
    private List<String> messages() throws IOException {
        return Files.readAllLines(folder.resolve("messages"));
    }

    private static String result(Run run, String watch) {
        Map<?, ?> result = results(run).get(watch);
        return result.get("verdict") + ", " + result.get("did");
    }

    private static Map<String, Map<?, ?>> results(Run run) {
        List<?> watches = (List<?>) ((Map<?, ?>) new JsonSlurper().parseText(run.out())).get("watches");
        return watches.stream().map(watch -> (Map<?, ?>) watch)
            .collect(Collectors.toMap(watch -> (String) watch.get("name"), watch -> watch));
    }
}
