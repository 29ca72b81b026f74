import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The commands as a person or a program calls them: what they print, what they leave, how they end. */
class CommandLineTest {

    private static MockWebServer server;
    @TempDir Path folder;
    private TestFolder home;

    @BeforeAll static void serve() throws IOException {
        server = new MockWebServer();
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                return new MockResponse.Builder().code(request.getUrl().encodedPath().equals("/bad") ? 530
                    : 200).body("hello").build();
            }
        });
        server.start();
    }

    @AfterAll static void stopServing() { server.close(); }

    @BeforeEach void rules() {
        home = new TestFolder(folder).rules("""
            watch('nas') { url '%1$s'; attempts 1 }
            watch('plex') { url '%2$s'; attempts 1; within 1.millisecond; needs 'nas'; \
            restart { run 'touch restarted' } }
            watch('disk') { command 'true'; attempts 1 }
            """.formatted(server.url("/good"), server.url("/bad")));
    }

    private static void says(String all, String part) {
        assertTrue(all.contains(part), () -> "«" + part + "» is not in: " + all);
    }

    private Path restarted() { return folder.resolve("restarted"); }

    private static Map<?, ?> json(Run run) { return (Map<?, ?>) new JsonSlurper().parseText(run.out()); }

    /** Every file under the folder with its content. */
    private Map<String, String> disk() throws IOException {
        try (Stream<Path> all = Files.walk(folder)) {
            Map<String, String> found = new TreeMap<>();
            for (Path file : all.filter(Files::isRegularFile).toList())
                found.put(folder.relativize(file).toString(), new String(Files.readAllBytes(file),
                    java.nio.charset.StandardCharsets.ISO_8859_1));
            return found;
        }
    }

    // ---- help and wrong words -------------------------------------------------------------------------

    @Test void helpLeadsWithExamples() {
        Run run = home.watchdog("--help");
        assertEquals(0, run.exit());
        assertEquals("""
            Checks the services in rules.groovy, restarts what is down, and notifies you.

              watchdog                       one check-and-heal pass, as cron runs it
              watchdog check                 check everything, change nothing
            """, run.out().lines().limit(4).collect(Collectors.joining("\n", "", "\n")));
        assertTrue(run.out().indexOf(
            "watchdog check https://example.com 'status == 200'") < run.out().indexOf("Usage:"), run.out());
        assertTrue(run.out().lines().allMatch(line -> line.length() <= 80), run.out());
        says(run.out(), "75   another pass is running");
    }

    @ParameterizedTest @CsvSource({
        "check", "validate", "status", "pause", "resume", "tell", "drill", "help", "completion",
        "restart", "log"})
    void everyCommandHelps(String command) {
        assertEquals(home.watchdog(command, "--help"), home.watchdog("help", command));
        home.watchdog("help", command + "x").exits(2).errs("did you mean '" + command + "'?");
        Run run = home.watchdog(command, "--help");
        assertEquals(0, run.exit(), run.toString());
        says(run.out(), "Usage: watchdog " + command);
    }

    @Test void theCompletionScriptIsOneThatBashReads() throws Exception {
        home.file("completion", home.watchdog("completion").out());
        Run run = Run.of(new ProcessBuilder("bash", "-c",
            ". ./completion; COMP_WORDS=(watchdog val); COMP_CWORD=1; "
                + "_complete_watchdog 2>&-; echo $COMPREPLY")
            .directory(folder.toFile()));
        assertEquals(new Run(0, "validate\n", ""), run);
    }

    @Test void helpAndVersionNeedNoRulesAndNoHome() {
        TestFolder bare = new TestFolder(folder.resolve("nowhere"));
        bare.env.clear();
        assertEquals("watchdog " + watchdog.VERSION + "\n", bare.watchdog("--version").out());
        assertEquals(0, bare.watchdog("--help").exit());
    }

    /** {@code words} are separated by spaces. */
    @ParameterizedTest @CsvSource(delimiter = '|', value = {
        "chekc | watchdog: no watch and no command is called 'chekc'; did you mean 'check'?",
        "plxe | watchdog: no watch and no command is called 'plxe'; did you mean 'plex'?",
        "check plexx | watchdog: no watch and no command is called 'plexx'; did you mean 'plex'?",
        "plex dsk | watchdog: no watch and no command is called 'dsk'; did you mean 'disk'?",
        "check example.com | watchdog: no watch and no command is called 'example.com'; a URL begins with "
            + "https:// or http://",
        "sonarr | watchdog: no watch and no command is called 'sonarr'; there is: nas, plex, disk",
        "check ftp://x/ | argument:1: url 'ftp://x/' is not a URL; write, for example, "
            + "'https://plex.example.com/identity'",
        "check http://x/ statsu==200 | argument:2:1: no such word 'statsu' in healthy { }; did you "
            + "mean 'status'?",
        "check http://x/ status==(200 | braces do not match: one before this is not closed",
        "--jsn | watchdog: unknown option: '--jsn'; did you mean --json?",
        "check --quite | watchdog: unknown option: '--quite'; did you mean --quiet?",
        "-x | watchdog: unknown option: '-x'",
        "--rules | watchdog: missing required parameter for option '--rules' (FILE)",
        "--rules ruls.groovy | ruls.groovy; to write one: watchdog setup URL",
        "--state | watchdog: missing required parameter for option '--state' (DIR)",
        "pause | watchdog: missing required parameter: 'NAME'",
        "pause plx | watchdog: no watch and no command is called 'plx'; did you mean 'plex'?",
        "pause plex --for soon | watchdog: invalid value for option '--for': 'soon' is not a duration; use "
            + "30m, 2h or 1d",
        "pause plex --for 0h | watchdog: invalid value for option '--for': '0h' is not a duration; use "
            + "30m, 2h or 1d",
        "resume plx | watchdog: no watch and no command is called 'plx'; did you mean 'plex'?",
        "tell plx | watchdog: no watch and no command is called 'plx'; did you mean 'plex'?",
        "drill plex | watchdog: plex has no stop in its restart, so a drill cannot stop it",
        "validate plex | watchdog: unexpected argument 'plex'",
        "validate x.groovy | watchdog: unexpected argument 'x.groovy'; did you mean --rules x.groovy?",
        "status --dry-run | watchdog: unknown option: '--dry-run'"})
    void wrongWordsAreOneClearSentenceAndNothingIsDone(String words, String sentence) {
        Run run = home.watchdog(words.split(" "));
        assertAll(
            () -> assertEquals(2, run.exit(), run.toString()),
            () -> assertEquals("", run.out()),
            () -> says(run.err(), sentence),
            () -> assertFalse(run.err().contains("Exception"), run.err()),
            () -> assertFalse(Files.exists(restarted())));
    }

    @Test void anEmptyNameIsNoWatch() {
        Run run = home.watchdog("");
        assertEquals(2, run.exit());
        says(run.err(), "no watch and no command is called ''");
    }

    @Test void aFaultOfAFileIsToldInPlainWords() {
        Map.of("there is no file /x", new NoSuchFileException("/x"),
            "no permission for /x", new AccessDeniedException("/x"),
            "this is not a folder: /x", new NotDirectoryException("/x"),
            "there is already a file /x", new FileAlreadyExistsException("/x"),
            "/x: No space left on device", new FileSystemException("/x", null, "No space left on device"))
            .forEach((words, fault) -> assertEquals(words, Text.thrown(fault)));
    }

    @Test void theHostOfTheRulesIsThatOfTheEnvironment() {
        home.rules("watch(\"on $host\") { command 'true' }").env("WATCHDOG_HOST", "mini");
        says(home.watchdog("check").out(), "on mini  healthy ");
    }

    // ---- check ----------------------------------------------------------------------------------------

    @Test void checkLooksAndRestartsNothingAndRemembersNothing() throws IOException {
        Run run = home.watchdog("check");
        assertEquals(1, run.exit());
        List<String> lines = run.out().lines().map(line -> line.replaceAll("in \\d+ ms", "in N ms")).toList();
        assertEquals(List.of("nas   healthy      200 in N ms",
            "plex  unhealthy    expected status in 200..299, but status was 530",
                "disk  healthy      exit code 0 in N ms"),
            lines.stream().map(line -> line.replaceAll("; .*", "")).toList());
        assertFalse(Files.exists(restarted()));
        assertFalse(disk().keySet().stream().anyMatch(file -> file.matches(".*(memory|history).*")), () ->
            run.toString());
    }

    @Test void aOneOffCheckNeedsNoRulesAndShowsThePhases() {
        Run run = new TestFolder(folder.resolve("empty")).env("HOME", folder.toString())
            .watchdog("check", server.url("/good").toString(), "status == 200", "body == 'hello'");
        assertEquals(0, run.exit(), run.toString());
        says(run.out(), server.url("/good") + "  healthy      200 in ");
        assertTrue(run.out().matches(
            "(?s).*\\n    dns .* ms, connect .* ms, first byte .* ms, body .* ms\\n"), run.out());
    }

    @Test void aOneOffConditionThatFailsShowsTheValuesItMet() {
        Run run = home.watchdog("check", server.url("/bad").toString(),
            "status == 200 && body.contains('Plex')");
        assertEquals(1, run.exit());
        says(run.out(), "unhealthy    expected status == 200 && body.contains('Plex'), "
            + "but status was 530; got 'hello'");
        says(run.out(), "    530    false");
        assertFalse(run.out().contains("restart"), run.out());
    }

    @Test void eachWrongConditionOfAOneOffIsToldByTheNumberOfTheArgument() {
        assertEquals("""
            argument:2:1: no such word 'statsu' in healthy { }; did you mean 'status'?
                statsu == 200
                ^
            argument:3:1: String has no 'contians'; did you mean 'contains'?
                body.contians('x')
                ^
            """, home.watchdog("check", "http://x/", "statsu == 200", "body.contians('x')").err());
    }

    // ---- a pass for people and for programs -----------------------------------------------------------

    @Test void jsonOfAPassHasThisShape() {
        Run run = home.watchdog("--json");
        Map<?, ?> all = json(run);
        List<?> watches = (List<?>) all.get("watches");
        Map<?, ?> plex = (Map<?, ?>) watches.get(1), disk = (Map<?, ?>) watches.get(2);
        assertAll(
            () -> assertEquals(1, run.exit()),
            () -> assertEquals(run.exit(), all.get("exit")),
            () -> assertEquals(List.of("nas", "plex", "disk"),
                watches.stream().map(w -> ((Map<?, ?>) w).get("name")).toList()),
            () -> assertEquals("unhealthy", plex.get("verdict")),
            () -> assertEquals("expected status in 200..299, but status was 530; got 'hello'",
                plex.get("reason")),
            () -> assertEquals(530, plex.get("status")),
            () -> assertEquals("restarted", plex.get("did")),
            () -> assertEquals(false, plex.get("healed")),
            () -> assertTrue(plex.get("millis") instanceof Integer, plex.toString()),
            () -> assertEquals("nothing", disk.get("did")),
            () -> assertTrue(Files.exists(restarted())));
    }

    @Test void jsonOfALookSaysThatNothingWasDone() {
        for (String[] words : new String[][] {{"check", "--json", "plex"}, {"--dry-run", "--json", "plex"}}) {
            Map<?, ?> plex = (Map<?, ?>) ((List<?>) json(home.watchdog(words)).get("watches")).get(1);
            assertEquals("nothing", plex.get("did"));
        }
        assertFalse(Files.exists(restarted()));
    }

    @Test void quietIsSilentWhileAllIsHealthyAndElseSaysOnlyWhatIsNot() {
        Run good = home.watchdog("--quiet", "nas", "disk"), bad = home.watchdog("--quiet");
        assertTrue(bad.out().matches("(?s)\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d  plex .*"), "a time, for a log: " + bad);
        assertEquals("", good.out() + good.err());
        assertEquals(0, good.exit());
        assertEquals(1, bad.out().lines().count(), bad.out());
        says(bad.out(), "plex  unhealthy");
    }

    @Test void aDryRunSaysWhatItWouldDoAndChangesNothing() throws IOException {
        home.watchdog("check"); // the compiled rules may be kept
        Map<String, String> before = disk();
        Run run = home.watchdog("--dry-run");
        assertEquals(1, run.exit());
        says(run.out(),
            "plex  unhealthy    expected status in 200..299, but status was 530; got 'hello'");
        says(run.out(), "would restart: run 'touch restarted'");
        assertEquals(before.keySet(), without(disk(), "lock"));
        assertFalse(Files.exists(restarted()));
    }

    private static java.util.Set<String> without(Map<String, String> files, String name) {
        return files.keySet().stream().filter(file -> !file.endsWith("/"
            + name)).collect(Collectors.toCollection(java.util.TreeSet::new));
    }

    @Test void aNamePicksAWatchAndWhatItNeeds() {
        assertEquals(List.of("nas", "plex"), names(home.watchdog("check", "plex")));
        assertEquals(List.of("disk"), names(home.watchdog("check", "disk")));
        assertEquals(List.of("nas", "disk"), names(home.watchdog("disk", "nas")));
    }

    private static List<String> names(Run run) { return run.out().lines().map(line ->
        line.split(" ")[0]).toList(); }

    // ---- exit codes -----------------------------------------------------------------------------------

    private int exit(String rules) { return home.rules(rules).watchdog().exit(); }

    @Test void theGravestExitCodeCounts() throws IOException {
        String good = "watch('good') { command 'true'; attempts 1 }\n";
        String bad = "watch('bad') { command 'false'; attempts 1 }\n";
        String unclear = "watch('unclear') { command 'true'; attempts 1; healthy { Integer.parseInt('x') "
            + "== 3 } }\n";
        String secretless = "notify slack(url: secret('NOT_SET'))\n";
        assertEquals(0, exit(good));
        assertEquals(3, exit(good + unclear));
        assertEquals(1, exit(good + unclear + bad));
        assertEquals(2, exit(good + unclear + bad + secretless));
        Files.writeString(home.state().resolve("memory.json"), "{ broken");
        assertEquals(4, exit(good + unclear + bad + secretless));
    }

    @Test void whileAnotherProcessRunsAPassThisOneEndsWith75() throws Exception {
        home.rules("""
            watch('slow') { command "/bin/sh -c 'touch began; while [ ! -e go ]; do sleep 0.05; done'"; \
            attempts 1; timeout 1.minute }
            """);
        ProcessBuilder builder = new ProcessBuilder(Run.process()).directory(
            folder.toFile()).redirectErrorStream(true)
            .redirectOutput(folder.resolve("first.log").toFile());
        builder.environment().put("HOME", folder.toString());
        builder.environment().remove("XDG_STATE_HOME");
        Process first = builder.start();
        try {
            Wait.until("the first pass to look", () -> Files.exists(folder.resolve("began")));
            Run second = home.watchdog(), quiet = home.watchdog("--quiet");
            assertAll(
                () -> assertEquals(75, second.exit()),
                () -> assertTrue(
                    second.toString().contains("another pass is running (pid " + first.pid() + ", "),
                    second.toString()),
                () -> assertEquals(75, quiet.exit()),
                () -> assertEquals("", quiet.out() + quiet.err()));
            Files.createFile(folder.resolve("go"));
            assertTrue(first.waitFor(20, TimeUnit.SECONDS));
            assertEquals(0, first.exitValue(), Files.readString(folder.resolve("first.log")));
            assertEquals(0, home.watchdog().exit());
        } finally {
            first.destroyForcibly();
        }
    }

    /** cron's mail has the result only; a person at a terminal does not wait without a sign of life. */
    @ParameterizedTest @CsvSource({"true,'',4", "false,'',1", "false,--verbose,4", "true,--quiet,1",
        "true,--json,1", "false,--json --verbose,1"})
    void aRestartShowsItsStepsToWhoeverIsThere(boolean terminal, String options, int lines) {
        TestFolder other = new TestFolder(folder).rules("""
            watch('file') { command 'test -e up'; attempts 1; restart { run 'touch up' } }
            """);
        other.terminal = terminal;
        Run run = other.env("NO_COLOR", "1").watchdog(options.isEmpty() ? new String[0] : options.split(" "));
        assertEquals(lines, run.out().lines().count(), run.toString());
        if (lines > 1) says(run.out(), """
            file: restarting
              run 'touch up'
            file: checking until it is healthy, for up to 30 s
            file  healed""");
        assertEquals(0, run.exit());
    }

    @Test void aRestartOnRequestIsProvenAndIsOutsideOfTheLimit() {
        TestFolder other = new TestFolder(folder).rules("""
            watch('file') { command 'test -e up'; attempts 1; limit 1; restart { sh 'echo >>ran; touch up' } }
            watch('sick') { command 'false'; attempts 1; within 50.milliseconds; restart { run 'true' } }
            watch('told') { command 'true'; restart(when: { status == 7 }) { } }
            watch('dead') { command 'true'; restart { start 'sh -c "sleep 0.2; exit 7"'; pause 1.second } }
            """);
        Run run = other.watchdog("restart", "file", "--json");
        assertEquals(List.of(0, true), List.of(run.exit(), run.json().get("healthy")), run.toString());
        other.watchdog("restart", "file").exits(0).says("file is healthy, ");
        other.watchdog("status", "file").says("last restart").says("(helped)").says("restarts left: 1 of 1");
        assertTrue(folder.resolve("up").toFile().delete());
        other.watchdog("file").exits(0).says("file  healed");
        assertEquals(3, other.lines("ran").size());
        other.clock = java.time.Clock.offset(other.clock, java.time.Duration.ofMinutes(30));
        assertTrue(folder.resolve("up").toFile().delete());
        other.watchdog("file").exits(1);
        other.watchdog("restart", "file").exits(0);
        other.watchdog("file").exits(0);
        other.watchdog("status", "file").says("touch up' (helped)");

        other.watchdog("restart", "sick").exits(1).says("sick is not healthy (");
        other.watchdog("restart", "dead").exits(1).says("dead is healthy; the restart failed: started sh");
        other.watchdog("status", "dead").says("ended with exit code 7)");
        other.watchdog("restart", "told").exits(2).errs("watchdog: told has no restart in the rules");
        other.watchdog("restart", "nobody").exits(2);
        other.rules("watch {").watchdog("restart", "file").exits(0).errs("using the last working rules");
    }

    // ---- validate -------------------------------------------------------------------------------------

    @Test void validatePrintsTheRulesBackInWords() {
        assertEquals("""
            nas: GET %1$s; up to 1 attempt of 10 s
                no restart
                no notifications
            plex: GET %2$s, needs nas; up to 1 attempt of 10 s
                restart: run 'touch restarted'
                at most 3 per 1 h, after 1 unhealthy pass, healthy within 1 ms
                no notifications
            disk: run true; up to 1 attempt of 10 s
                no restart
                no notifications
            rules.groovy is good: 3 watches
            """.formatted(server.url("/good"), server.url("/bad")), home.watchdog("validate").out());
        assertFalse(Files.exists(restarted()));
    }

    @Test void validateFindsCommandsThatCronWouldNotFind() throws IOException {
        Path bin = Files.createDirectory(folder.resolve("bin")), tool = bin.resolve("my-own-tool");
        Files.writeString(tool, "#!/bin/sh\n");
        Files.setPosixFilePermissions(tool, PosixFilePermissions.fromString("rwxr-xr-x"));
        String rules = "watch('a') { tcp 'localhost:1'; restart { run 'my-own-tool now' } }\n";
        Run without = home.env("PATH", bin + ":/usr/bin:/bin").rules(rules).watchdog("validate");
        assertEquals(2, without.exit());
        says(without.err(),
            "rules.groovy: a: run 'my-own-tool now': under cron, no program 'my-own-tool' in /usr/bin:/bin");
        Run with = home.rules("path '" + bin + "'\n" + rules).watchdog("validate");
        assertEquals(0, with.exit(), with.toString());
    }

    @Test void validatePrintsConditionsAndCauses() {
        home.rules("""
            watch('a') {
                url 'http://127.0.0.1:1/'
                healthy {                       // every line
                    url.startsWith('http://')   // not a comment
                    if (status == 200) {
                        body.contains('x')
                    }
                }
                restart(when: { status == 502 }) { run 'true' }
                restart { run 'false' }
            }
            """).watchdog("validate").exits(0).says("""
                healthy when url.startsWith('http://'); if (status == 200) { body.contains('x') }
                restart when status == 502: run 'true'
                restart: run 'false'
            """);
    }

    /** A shell script is read up to its first program; sudo needs a line in sudoers. */
    @ParameterizedTest @CsvSource(delimiterString = " => ", value = {
        "sh \"nosuch -x | cat\" => no program \"nosuch\" in",
        "sh \"A=1 B=2 nosuch; true\" => no program \"nosuch\"",
        "sh \"if true; then nosuch; fi\" => is good", "sh \"cd /tmp && nosuch\" => is good",
        "sh \"$SHELL -c true\" => is good", "run \"tail -c conf\" => is good",
        "run \"sleep 3; echo x\" => no shell runs here, so \"3;\"",
        "run \"sudo true a b\" => sudo would ask for a password; write sudo -n",
        "run \"sudo -n true a\" => \"sudo -n true a\": add to sudoers: "
            + "USER ALL=(root) NOPASSWD: /usr/bin/true a",
        "run \"sudo -n true\" => USER ALL=(root) NOPASSWD: /usr/bin/true \"\"",
        "run \"sudo -n true a=b\" => USER ALL=(root) NOPASSWD: /usr/bin/true a\\=b",
        "run \"sudo -u me true\" => sudo would ask for a password; write sudo -n",
        "stop \"~/bin/nosuch run\" => no shell runs here, so \"~/bin/nosuch\"",
        "stop \"nosuch\" => stop \"nosuch\" matches no process now",
        "stop \"nosuch\" => is good", "sh \"sudo -n true | cat\" => USER ALL=(root) NOPASSWD: /usr/bin/true",
        "run \"sudo -n nosuch\" => no program \"nosuch\" in"})
    void validateLooksIntoShellAndSudo(String step, String sentence) {
        home.script("sudo", "exit 1").rules("path '" + folder + "'\nwatch('a') { tcp 'localhost:1'; "
            + "restart { " + step.replace('"', '\'') + " } }\n");
        Run run = home.watchdog("validate", "--verbose");
        says((run.out() + run.err()).replace('"', '\''), sentence.replace('"', '\'')
            .replace("USER", System.getProperty("user.name")));
    }

    @Test void validateSendsNothingAndAsksNothing() {
        int before = server.getRequestCount();
        home.watchdog("validate");
        assertEquals(before, server.getRequestCount());
    }

    // ---- pause, resume, status, tell ------------------------------------------------------------------

    @Test void aPausedWatchIsLeftAloneUntilItIsResumed() {
        assertEquals("plex is paused until it is resumed; end the pause with: watchdog resume plex\n",
            home.watchdog("pause", "plex").out());
        Run paused = home.watchdog();
        assertEquals(0, paused.exit());
        says(paused.out(), "plex  paused       until it is resumed");
        assertFalse(Files.exists(restarted()));
        assertEquals("plex is watched again\n", home.watchdog("resume", "plex").out());
        assertEquals("plex was not paused\n", home.watchdog("resume", "plex").out());
        says(home.watchdog("status", "plex").out(), "plex: resumed, not checked yet\n");
        assertEquals(1, home.watchdog().exit());
        assertTrue(Files.exists(restarted()));
    }

    @Test void aPauseEndsByItself() {
        MutableClock clock = new MutableClock(Instant.parse("2026-05-01T10:00:00Z"));
        home.clock = clock;
        says(home.watchdog("pause", "plex", "--for", "2h").out(), "plex is paused until 2026-05-0");
        clock.add(java.time.Duration.ofMinutes(119));
        assertEquals(0, home.watchdog().exit());
        clock.add(java.time.Duration.ofMinutes(2));
        assertEquals(1, home.watchdog().exit());
    }

    @Test void statusSaysWhatIsRememberedToPeopleAndPrograms() {
        says(home.watchdog("status").out(), "plex: new, not checked yet");
        home.watchdog();
        Run people = home.watchdog("status"), programs = home.watchdog("status", "--json");
        assertEquals(0, people.exit());
        says(people.out(), "plex: unhealthy since ");
        says(people.out(), ": expected status in 200..299, but status was 530; got 'hello'\n"
            + "    last restart ");
        says(people.out(),
            "run 'touch restarted' (did not help)\n    restarts left: 2 of 3 per 1 h\n    uptime: unknown");
        Map<?, ?> plex = (Map<?, ?>) ((List<?>) json(programs).get("watches")).get(1);
        assertEquals("unhealthy", plex.get("state"));
        assertEquals(2, plex.get("restartsLeft"));
        assertEquals(0, json(programs).get("waiting"));
    }

    @Test void tellSaysWhatBecameOfEachHook() throws IOException {
        int before = server.getRequestCount();
        Run run = home.rules("""
            watch('plex') { command 'true'; notify webhook('%s'); notify command('false') }
            """.formatted(server.url("/good"))).watchdog("tell", "plex");
        assertEquals(1, run.exit(), run.toString());
        assertEquals(before + 1, server.getRequestCount());
        assertTrue(run.out().matches("(?s)webhook.*: .*\\ncommand.*: .*\\n"), run.out());
        Run none = home.rules("watch('plex') { command 'true' }").watchdog("tell");
        assertEquals("there is no notify line in the rules\n", none.out());
    }

    // ---- where memory is ------------------------------------------------------------------------------

    private static List<String> entries(Path of) throws IOException {
        try (Stream<Path> all = Files.list(of)) {
            return all.map(file -> file.getFileName().toString()).toList();
        }
    }

    @Test void memoryIsUnderXdgStateHome() throws IOException {
        home.env("XDG_STATE_HOME", folder.resolve("xdg").toString()).watchdog("disk");
        assertTrue(entries(folder.resolve("xdg/watchdog")).get(0).startsWith("rules-"));
        assertFalse(Files.exists(folder.resolve(".local")));
    }

    @Test void aRelativeXdgStateHomeIsNoneAsItsStandardSays() throws IOException {
        home.env("XDG_STATE_HOME", "xdg").watchdog("disk");
        assertTrue(Files.exists(home.state().resolve("memory.json")));
        assertFalse(Files.exists(folder.resolve("xdg")));
    }

    @Test void memoryIsWhereStateSays() throws IOException {
        home.watchdog("--state", "here", "disk");
        assertTrue(entries(folder.resolve("here")).get(0).startsWith("rules-"));
        assertFalse(Files.exists(folder.resolve(".local")));
    }

    @Test void twoRulesFilesHaveTwoMemories() throws IOException {
        home.file("other.groovy", "watch('x') { command 'true' }\n");
        home.watchdog("disk");
        assertEquals(0, home.watchdog("--rules", "other.groovy").exit());
        List<String> kept = new ArrayList<>(entries(folder.resolve(".local/state/watchdog")));
        assertEquals(List.of("other", "rules"), kept.stream().map(name -> name.replaceAll("-\\w+$",
            "")).sorted().toList());
    }

    @Test void withoutHomeInTheEnvironmentAPassStillRuns() {
        home.env.remove("HOME");
        Run run = home.watchdog("--state", folder.resolve("kept").toString(), "disk");
        assertEquals(0, run.exit(), run.toString());
    }

    @Test void anUnusableHomeIsSaidWithWhatToDo() {
        Run run = home.env("HOME", "?").watchdog("disk");
        assertEquals(4, run.exit());
        assertEquals("watchdog: HOME is not set, so there is no folder for state; use --state DIR\n",
            run.err());
        assertEquals(0, home.watchdog("--state", "kept", "disk").exit());
    }

    @Test void rulesInTheConfigFolderAreFoundWhenThereAreNoneHere() throws IOException {
        Path config = Files.createDirectories(folder.resolve(".config/watchdog"));
        Files.move(folder.resolve("rules.groovy"), config.resolve("rules.groovy"));
        assertEquals(List.of("disk"), names(home.watchdog("check", "disk")));
    }

    /** cron's locale is POSIX where the crontab does not say otherwise. */
    @Test void aNameThatTheLocaleCannotWriteIsSaid() throws Exception {
        List<String> words = new ArrayList<>(List.of("sh", "-c",
            "exec \"$@\" --quiet --rules \"$(printf '\\303\\274').groovy\"", "sh"));
        words.addAll(Run.process());
        ProcessBuilder builder = new ProcessBuilder(words).directory(folder.toFile()).redirectErrorStream(
            true);
        builder.environment().put("LC_ALL", "POSIX");
        Process process = builder.start();
        String said = new String(process.getInputStream().readAllBytes(),
            java.nio.charset.StandardCharsets.UTF_8);
        assertEquals(2, process.waitFor());
        assertTrue(said.matches("watchdog: the current locale cannot represent the file name "
            + "'.*\\.groovy'; set LC_ALL=C\\.UTF-8\n"), said);
    }

    /** Somebody's script, whose name such a locale cannot write, is none of those that a step stops. */
    @Test void aProcessWhoseNameTheLocaleCannotWriteKeepsNoStepFromRunning() throws Exception {
        home.rules("""
            watch('plex') { url '%s'; attempts 1; within 1.millisecond
                restart { stop 'no-such-daemon'; run 'touch restarted' } }
            """.formatted(server.url("/bad")));
        Process script = new ProcessBuilder("sh", "-c", "name=$(printf '\\303\\274').sh;"
            + " echo 'echo runs; read end' >$name; exec sh $name").directory(folder.toFile()).start();
        try {
            script.inputReader().readLine();
            ProcessBuilder pass = new ProcessBuilder(Run.process()).directory(folder.toFile());
            pass.environment().putAll(Map.of("LC_ALL", "POSIX", "HOME", folder.toString()));
            Run.of(pass).exits(1).says("no process runs 'no-such-daemon'");
            assertTrue(Files.exists(restarted()));
        } finally {
            script.destroy();
        }
    }

    /** Every line of stdout is an object, also when there is a mistake; the sentences are on stderr too. */
    @ParameterizedTest @CsvSource(delimiter = '|', value = {
        "--json | 1 | watches, exit", "check --json | 1 | watches, exit",
        "--dry-run --json | 1 | watches, exit",
        "check http://127.0.0.1:1/ --json | 1 | watches, exit",
        "validate --json | 0 | watches, problems, exit",
        "status --json | 0 | watches, waiting, lastPass, every, rules", "log --json | 0 | since, incidents",
        "pause disk --json | 0 | name, pausedUntil, message",
        "resume disk --json | 0 | name, wasPaused, message",
        "tell disk --json | 0 | message", "check nosuch --json | 2 | problems, exit",
        "drill disk --yes --json | 2 | problems, exit", "--json --wrong | 2 | problems, exit",
        "pause --json | 2 | problems, exit", "--rules none.groovy --json | 2 | problems, exit"})
    void everyCommandHasJson(String args, int exit, String fields) {
        Run run = home.watchdog(args.split(" ")).exits(exit);
        run.out().lines().forEach(line -> assertTrue(List.of(fields.split(", ")).containsAll(
            ((Map<?, ?>) new JsonSlurper().parseText(line)).keySet()), run.toString()));
        assertFalse(run.out().isEmpty());
        assertEquals(fields.startsWith("problems"), !run.err().isEmpty(), run.toString());
    }

    @Test void aDrillAndItsPassAreObjectsForPrograms() {
        home.rules("watch('file') { command 'test -e up'; attempts 1; restart { stop 'no such program'; run "
            + "'touch up' } }\n").file("up", "");
        Run run = home.watchdog("drill", "file", "--yes", "--json").exits(2);
        String first = run.out().lines().findFirst().orElse("");
        assertEquals("file is healthy", json(new Run(0, first, "")).get("message"));
        run.errs("the drill ends here, since its stop ended no process");
    }

    @Test void twoUrlsAreNotAUrlAndACondition() {
        home.watchdog("check", "http://127.0.0.1:1/", "https://b.invalid/").exits(2)
            .errs("watchdog: check takes one URL and conditions, for example 'status == 200'\n");
    }

    @Test void validateSaysTheSameToPrograms() {
        home.rules("watch('a') { tcp '127.0.0.1:1'; restart { run 'nonesuch' } }\n");
        Run run = home.watchdog("validate", "--json");
        String complaint = "rules.groovy: a: run 'nonesuch': under cron, no program 'nonesuch' in "
            + "/usr/bin:/bin:"
            + "/usr/local/bin:/opt/homebrew/bin:/usr/sbin:/sbin:" + folder + "/.local/bin;"
            + " install it, or name its folder: path '/opt/...'";
        assertEquals("{\"watches\":[\"a\"],\"problems\":[\"" + complaint
            + "\"],\"exit\":2}\n", run.out());
        assertEquals(2, run.exit());
        assertEquals("{\"watches\":[\"a\"],\"problems\":[],\"exit\":0}\n",
            home.rules("watch('a') { tcp '127.0.0.1:1' }\n").watchdog("validate", "--json").out());
    }

    @Test void aWatchThatRestartsNothingHasNoRestartsLeft() {
        assertFalse(home.rules("watch('a') { command 'true' }\n").watchdog("status").out().contains(
            "restarts left"));
        assertTrue(home.rules("watch('a') { command 'true'; restart { run 'true' } }\n").watchdog(
            "status").out().contains("restarts left: 3 of 3 per 1 h"));
    }

    @Test void statusOfSomeIsOfThoseAndSaysBrokenRules() throws IOException {
        home.rules("watch('a') { command 'true' }\nwatch('b') { command 'true' }\n");
        assertEquals(0, home.watchdog().exit());
        assertEquals(List.of("b"), home.watchdog("status", "b").out().lines().filter(line ->
            line.startsWith("a:") || line.startsWith("b:"))
            .map(line -> line.replaceFirst(":.*", "")).toList());
        Run broken = home.rules("watch('a') { comand 'true' }\n").watchdog("status");
        assertTrue(broken.out().startsWith("a: healthy since ")
            && broken.err().contains("did you mean 'command'?"), broken.toString());
    }

    @Test void aDamagedByteInTheHistoryCostsItsLineAndNoMore() throws IOException {
        home.rules("watch('a') { command 'true' }\n");
        home.watchdog();
        String line = Files.readString(home.state().resolve("history.jsonl"));
        long later = ((Number) json(new Run(0, line, "")).get("")).longValue() + 300;
        home.clock = new MutableClock(Instant.ofEpochSecond(later));
        home.watchdog();
        Files.write(home.state().resolve("history.jsonl"), new byte[] {(byte) 0xff, (byte) 0xfe, '\n'},
            java.nio.file.StandardOpenOption.APPEND);
        assertTrue(home.watchdog("status").out().contains("uptime: 100 % in 5 min"));
    }

    @Test void anEmptyConditionIsNone() {
        Run run = home.watchdog("check", "http://127.0.0.1:1/", "");
        assertEquals(2, run.exit());
        assertEquals("watchdog: check takes one URL and conditions, for example 'status == 200'\n",
            run.err());
    }
}
