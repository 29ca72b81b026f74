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
 * `needs`: a service that cannot be reached because something else is down is not to blame. Each watch here looks for
 * a file, which its remedy makes: `internet` is up while there is a file of that name.
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
    private static final String TOLD = """
        notify command('sh -c "echo $WATCHDOG_WATCH $WATCHDOG_EVENT >> told"')
        """;

    @TempDir Path folder;
    private Run.Desk desk;

    @BeforeEach
    void setTheDesk() { desk = new Run.Desk(folder); }

    // ---- blocked -------------------------------------------------------------------------------------------------

    @Test
    void whileTheNeedIsUnhealthyNothingIsRestartedAndOnlyTheNeedIsToldOf() throws IOException {
        Run run = desk.rules(TOLD + INTERNET + PLEX).watchdog();
        assertEquals(1, run.exit(), run.toString());
        assertEquals("""
            internet  unhealthy    not status == 0 (status: 1)
            plex      inconclusive needs internet, which is unhealthy
            """, run.out());
        assertFalse(up("plex"));
        assertEquals(List.of("internet down"), told());
    }

    @Test
    void theOrderInTheFileDoesNotMatter() throws IOException {
        Run run = desk.rules(TOLD + PLEX + INTERNET).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", seen(run, "plex"));
        assertEquals(List.of("internet down"), told());
    }

    @Test
    void namedAloneItIsJudgedWithWhatItNeeds() {
        Run run = desk.rules(PLEX + INTERNET + """
            watch('other') { command 'false' }
            """).watchdog("check", "plex", "--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", seen(run, "plex"));
        assertEquals(List.of("internet", "plex"), looks(run).keySet().stream().sorted().toList());
    }

    @Test
    void whenTheNeedCannotBeJudgedEither() {
        Run run = desk.rules(PLEX + """
            watch('internet') {
                command 'true'
                healthy { certificate.expiresIn > 1.day }
            }
            """).watchdog("--json");
        assertEquals(3, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", seen(run, "plex"));
        assertEquals("needs internet, which is inconclusive", looks(run).get("plex").get("reason"));
        assertFalse(up("plex"));
    }

    @Test
    void aDryRunSaysThatItWouldHoldBack() {
        Run run = desk.rules(PLEX + INTERNET).watchdog("--dry-run");
        assertEquals(1, run.exit(), run.toString());
        assertTrue(run.out().contains("plex      inconclusive needs internet, which is unhealthy\n"), run.out());
        assertFalse(run.out().contains("would restart"), run.out());
    }

    @Test
    void whatAnswersAllTheSameIsHealthy() throws IOException {
        bring("plex");
        Run run = desk.rules(INTERNET + PLEX).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("healthy, nothing", seen(run, "plex"));
    }

    // ---- several -------------------------------------------------------------------------------------------------

    @Test
    void oneOfSeveralNeedsIsEnoughToBlockAndItIsNamed() throws IOException {
        bring("internet");
        desk.rules(INTERNET + """
            watch('dns') { command 'test -e dns'; attempts 1 }
            watch('plex') {
                command 'test -e plex'
                attempts 1
                needs 'internet', 'dns'
                restart { run 'touch plex' }
            }
            """);
        Run blocked = desk.watchdog("--json");
        assertEquals("needs dns, which is unhealthy", looks(blocked).get("plex").get("reason"));
        assertFalse(up("plex"));
        bring("dns");
        Run free = desk.watchdog("--json");
        assertEquals(0, free.exit(), free.toString());
        assertEquals("healthy, restarted", seen(free, "plex"));
    }

    @Test
    void whatABlockedOneIsNeededForIsBlockedToo() {
        Run run = desk.rules("""
            watch('library') { command 'false'; attempts 1; needs 'plex'; restart { run 'touch library' } }
            """ + PLEX + INTERNET).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("inconclusive, blocked", seen(run, "library"));
        assertEquals("needs plex, which is inconclusive", looks(run).get("library").get("reason"));
        assertFalse(up("library"));
    }

    // ---- freed in the same pass ----------------------------------------------------------------------------------

    @Test
    void aNeedThatIsHealedFreesItsDependentsInTheSamePass() {
        Run run = desk.rules("""
            watch('library') { command 'test -e plex'; attempts 1; needs 'plex' }
            """ + PLEX + """
            watch('internet') {
                command 'test -e internet'
                attempts 1
                restart { run 'touch internet' }
            }
            """).watchdog("--json");
        assertEquals(0, run.exit(), run.toString());
        assertEquals("healthy, restarted", seen(run, "internet"));
        assertEquals("healthy, restarted", seen(run, "plex"));
        assertEquals("healthy, nothing", seen(run, "library"));
    }

    @Test
    void aNeedThatIsNotHealedKeepsItsDependentsBlocked() {
        Run run = desk.rules(PLEX + """
            watch('internet') {
                command 'test -e internet'
                attempts 1
                within 200.milliseconds
                restart { run 'true' }
            }
            """).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("unhealthy, restarted", seen(run, "internet"));
        assertEquals("inconclusive, blocked", seen(run, "plex"));
        assertFalse(up("plex"));
    }

    // ---- between passes ------------------------------------------------------------------------------------------

    @Test
    void passesInWhichItIsBlockedAreNoFailuresOfItsOwn() throws IOException {
        desk.rules(INTERNET + PLEX.replace("attempts 1", "attempts 1; failures 2"));
        desk.watchdog();
        desk.watchdog();
        bring("internet");
        assertEquals("unhealthy, held", seen(desk.watchdog("--json"), "plex"), "the first failure of its own");
        assertEquals("healthy, restarted", seen(desk.watchdog("--json"), "plex"), "the second");
    }

    @Test
    void anIncidentThatIsBlockedInItsCourseStaysOneStory() throws IOException {
        desk.rules(TOLD + INTERNET + """
            watch('plex') { command 'test -e plex'; attempts 1; needs 'internet' }
            """);
        bring("internet");
        desk.watchdog();
        Files.delete(folder.resolve("internet"));
        desk.watchdog();
        bring("internet");
        desk.watchdog();
        bring("plex");
        assertEquals(0, desk.watchdog().exit());
        assertEquals(List.of("plex down", "internet down", "internet recovered", "plex recovered"), told());
    }

    @Test
    void aPausedNeedBlocksNothing() {
        desk.rules(INTERNET + PLEX);
        assertEquals(0, desk.watchdog("pause", "internet").exit());
        Run run = desk.watchdog("--json");
        assertEquals(0, run.exit(), run.toString());
        assertEquals("paused, paused", seen(run, "internet"));
        assertEquals("healthy, restarted", seen(run, "plex"));
    }

    @Test
    void whatIsPausedIsPausedAndNotBlocked() {
        desk.rules(INTERNET + PLEX);
        assertEquals(0, desk.watchdog("pause", "plex").exit());
        Run run = desk.watchdog("--json");
        assertEquals("paused, paused", seen(run, "plex"));
        assertFalse(up("plex"));
    }

    // ---- mistakes ------------------------------------------------------------------------------------------------

    @Test
    void aNeedThatIsNoWatchAndACircleAreMistakes() {
        Run run = desk.rules("""
            watch('a') { command 'true'; needs 'b' }
            watch('b') { command 'true'; needs 'a' }
            watch('c') { command 'true'; needs 'c' }
            watch('plex') { command 'true'; needs 'internt' }
            watch('internet') { command 'true' }
            """).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        String mistakes = run.err().lines().filter(line -> line.startsWith("rules.groovy:")).map(line -> line + "\n").collect(Collectors.joining());
        assertEquals("""
            rules.groovy:1: watch 'a' needs itself: a needs b needs a
            rules.groovy:3: watch 'c' needs itself: c needs c
            rules.groovy:4: watch 'plex' needs 'internt', which is no watch; did you mean 'internet'?
            """, mistakes);
    }

    private boolean up(String service) { return Files.exists(folder.resolve(service)); }

    private void bring(String service) throws IOException { Files.createFile(folder.resolve(service)); }

    /** The messages, in the order in which they came. */
    private List<String> told() throws IOException { return Files.readAllLines(folder.resolve("told")); }

    private static String seen(Run run, String watch) {
        Map<?, ?> look = looks(run).get(watch);
        return look.get("verdict") + ", " + look.get("did");
    }

    private static Map<String, Map<?, ?>> looks(Run run) {
        List<?> all = (List<?>) ((Map<?, ?>) new JsonSlurper().parseText(run.out())).get("watches");
        return all.stream().map(one -> (Map<?, ?>) one).collect(Collectors.toMap(one -> (String) one.get("name"), one -> one));
    }
}
