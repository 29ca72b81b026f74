import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Remedies at work on real processes. The watched service is a file: healthy while `healed` exists. */
class RestartTest {
    /** Stays, writes its number to NAME.pid, and does not stay for ever should a test be killed. */
    private static final String DAEMON = """
        #!/usr/bin/perl
        open my $up, '>', "$0.new"; print $up $$; close $up; rename "$0.new", "$0.pid";
        alarm 300;
        1 while sleep 1000;
        """;
    /** What people read, by situation. */
    private static final Map<String, String> SENTENCES = Map.ofEntries(
        entry("nothing runs", "no process runs '%s', so nothing was stopped"),
        entry("stopped", "stopped %s (pid %s)"),
        entry("killed", "killed %s (pid %s)"),
        entry("started", "started %s"),
        entry("ran", "ran '%s'"),
        entry("too short", "stop '%s' is too short to be safe; write at least 3 characters"),
        entry("interpreter", "stop '%s' would end every script that %1$s runs; name the script, too"),
        entry("too many",
            ", but watchdog stops at most 5 processes, and only those of user "),
        entry("another user's",
            "matches %s (pid %s), but watchdog stops at most 5 processes, and only those of user root"),
        entry("started by others", " was started again by something else"),
        entry("no file", "%s does not exist"),
        entry("a folder", "%s is not a file"),
        entry("no program", "no program '%s' in %s/place:"),
        entry("not executable", "%1$s is not executable; fix it with: chmod +x %1$s"),
        entry("ended", "%s ended with exit code %s"),
        entry("no interpreter",
            "%s ended with exit code 127 (does its first line name a program that exists?): "),
        entry("failed", "the command `%s` failed with exit code 7: "),
        entry("interrupted", "watchdog: interrupted while it restarted it; the next pass goes on with that"),
        entry("too slow", "'%s' did not end within 1 s and was killed: thinking"),
        entry("too much output", "'%s' printed more than 64 MiB and was killed"),
        entry("cannot run", "cannot run '%s"),
        entry("error in the rules", "not tonight (line 7 of the rules)"),
        entry("empty command", "a command is empty"));
    private static final String STUBBORN = DAEMON.replace("alarm", "$SIG{TERM} = 'IGNORE'; alarm");
    private static final boolean ROOT = "root".equals(System.getProperty("user.name"));

    @TempDir
    private Path temp;
    private Path folder;
    private TestFolder home;
    private final List<Process> started = new ArrayList<>();

    @BeforeEach
    void open() throws IOException {
        folder = temp.toRealPath();   // as the process table shows it
        home = new TestFolder(folder);
    }

    /** All processes of a test name its folder among their words, or are children of one that does. */
    @AfterEach
    void endWhatIsLeft() throws Exception {
        for (Process process : started) endTree(process.toHandle());
        ProcessHandle.allProcesses().filter(p -> Arrays.stream(p.info().arguments().orElse(new String[0]))
            .anyMatch(word -> word.startsWith(folder + "/"))).forEach(RestartTest::endTree);
    }

    private static void endTree(ProcessHandle process) {
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly();
    }

    // ---- stop ---------------------------------------------------------------------------------------------

    @Test
    void whatDoesNotRunNeedNotBeStopped() {
        assertHealed("expected exit code 0, but it was 1; " + sentence("nothing runs", "./nobody.pl")
            + "; ran",
            pass("""
            stop './nobody.pl'
            sh 'touch healed'"""));
    }

    @Test
    void sigtermIsEnough() throws Exception {
        long pid = running("polite.pl", DAEMON);
        rules("stop './polite.pl'");
        String preview = "stop './polite.pl' now matches polite.pl (pid " + pid + ")";
        home.watchdog("validate", "--verbose").exits(0).says(preview);
        assertTrue(alive(pid));
        assertHealed(sentence("stopped", "polite.pl", pid), pass("""
            stop './polite.pl'
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    @Test
    void whoIgnoresSigtermIsKilledAfterItsGrace() throws Exception {
        long pid = running("stubborn.pl", STUBBORN);
        assertHealed(sentence("killed", "stubborn.pl", pid), pass("""
            stop './stubborn.pl', grace: 300.milliseconds
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    @Test
    void aSuspendedProcessIsKilledAfterItsGrace() throws Exception {
        long pid = running("asleep.pl", DAEMON);
        tool("kill", "-STOP", "" + pid);
        Wait.until("it to be suspended", () -> state(pid) == 'T');
        assertHealed(sentence("killed", "asleep.pl", pid), pass("""
            stop './asleep.pl', grace: 300.milliseconds
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    @Test
    void childrenEndWithTheirParent() throws Exception {
        long pid = running("family.sh", """
            #!/bin/sh
            sleep 300 & echo $! >child
            sh -c 'echo $$ >grandchild; trap "" TERM; sleep 300; :' &
            until [ -s grandchild ]; do sleep 0.05; done
            echo $$ >"$0.new"; mv "$0.new" "$0.pid"
            wait
            """);
        long child = number("child"), grandchild = number("grandchild");
        assertHealed("family.sh (pid " + pid + ")", pass("""
            stop './family.sh', grace: 300.milliseconds
            sh 'touch healed'"""));
        assertEquals(List.of(), Stream.of(pid, child, grandchild).filter(RestartTest::alive).toList());
    }

    @Test
    void aZombieCountsAsDead() throws Exception {
        script("undead.pl", DAEMON);
        long parent =
            running("parent.pl", DAEMON.replace("alarm", "if (!fork) { exec './undead.pl' } alarm"));
        Wait.until("the child", () -> Files.exists(folder.resolve("undead.pl.pid")));
        long pid = number("undead.pl.pid");
        assertHealed(sentence("stopped", "undead.pl", pid), pass("""
            stop './undead.pl'
            sh 'touch healed'"""));
        assertEquals('Z', state(pid));
        assertTrue(alive(parent));
        Files.delete(folder.resolve("healed"));
        assertHealed(sentence("nothing runs", "./undead.pl"), home.watchdog());
    }

    @ParameterizedTest
    @ValueSource(strings = {"/usr/bin/perl", "/usr/bin/perl -w", "/usr/bin/env perl",
        "/usr/bin/env -S perl -w", "/usr/bin/env -S LANG=C perl -w"})
    void aScriptIsFoundBehindItsInterpreter(String interpreter) throws Exception {
        long pid = running("script.pl", DAEMON.replace("/usr/bin/perl", interpreter), "tunnel", "run");
        assertHealed(sentence("stopped", "script.pl", pid), pass("""
            stop './script.pl tunnel run'
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    @Test
    void aProgramThatWasReplacedOnDiskIsFound() throws Exception {
        Files.copy(Path.of("/usr/bin/perl"), folder.resolve("native"));
        tool("chmod", "+x", folder + "/native");
        script("tunnel", DAEMON);
        long pid = started("tunnel.pid", folder + "/native", folder + "/tunnel", "run");
        Files.delete(folder.resolve("native"));
        Files.writeString(folder.resolve("native"), "the new version");
        assertHealed(sentence("stopped", "native", pid), pass("""
            stop "$folder/native $folder/tunnel run"
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    /** As busybox is: one file, which is each of the programs that link to it. */
    @Test
    void anotherProgramOfTheSameFileIsNotStopped() throws Exception {
        Path file = Files.copy(Path.of("/usr/bin/perl"), folder.resolve("manybox"));
        for (String name : List.of("crond2", "syslogd2"))
            Files.createSymbolicLink(folder.resolve(name), file);
        Process wanted = start(folder + "/crond2", "-e", "sleep 300");
        Process other = start(folder + "/syslogd2", "-e", "sleep 300");
        Process nameless = start("perl", "-e", "exec { '" + file + "' } ' ', '-e', 'sleep 300'");
        Wait.until("both", () -> Stream.of(wanted, other, nameless).allMatch(process ->
            process.info().command().filter(file.toString()::equals).isPresent()));
        assertHealed(sentence("stopped", "crond2", wanted.pid()), pass("""
            stop "$folder/crond2 -e 'sleep 300'"
            sh 'touch healed'"""));
        assertTrue(other.isAlive() && nameless.isAlive());
    }

    /** As mysqld is a link to mariadbd, and runs under that name. */
    @Test
    void aProgramIsFoundByTheFileThatItsNameLeadsTo() throws Exception {
        Path file = Files.copy(Path.of("/usr/bin/perl"), folder.resolve("new-name"));
        Files.createSymbolicLink(folder.resolve("old-name"), file);
        Process wanted = start(file.toString(), "-e", "sleep 300");
        Wait.until("its exec", () -> wanted.info().command().filter(file.toString()::equals).isPresent());
        assertHealed(sentence("stopped", "old-name", wanted.pid()), pass("""
            stop "$folder/old-name -e 'sleep 300'"
            sh 'touch healed'"""));
    }

    @Test
    void otherArgumentsAreAnotherProcess() throws Exception {
        long pid = running("plex.pl", DAEMON, "tunnel", "list");
        assertHealed(sentence("nothing runs", "./plex.pl tunnel run"), pass("""
            stop './plex.pl tunnel run'
            sh 'touch healed'"""));
        assertTrue(alive(pid));
    }

    @Test
    void whoOnlyNamesTheScriptIsNotStopped() throws Exception {
        script("edited.pl", DAEMON);
        Process editor = start("tail", "-f", folder + "/edited.pl");
        Process shell = start("sh", "-c", "sleep 300; : ./edited.pl", folder + "/edited.pl");
        Process perl = start("perl", "-e", "sleep 300", folder + "/edited.pl");
        Files.copy(Path.of("/usr/bin/tail"), folder.resolve("perlcritic")); // begins as its interpreter does
        Process checker = start(folder + "/perlcritic", "-f", folder + "/edited.pl");
        assertHealed(sentence("nothing runs", "./edited.pl"), pass("""
            stop './edited.pl'
            sh 'touch healed'"""));
        assertEquals(List.of(true, true, true, true),
            Stream.of(editor, shell, perl, checker).map(Process::isAlive).toList());
    }

    @Test
    void whatStartStartedIsStoppedThoughItRunsUnderAnotherName() throws Exception {
        script("wrapped.sh", "#!/bin/sh\necho $$ >\"$0.new\"; mv \"$0.new\" \"$0.pid\"; exec sleep 300\n");
        pass("start './wrapped.sh'", "within 100.milliseconds");
        Path pid = folder.resolve("wrapped.sh.pid");
        Wait.until("the daemon", () -> Files.exists(pid));
        long daemon = Long.parseLong(Files.readString(pid).trim());
        Wait.until("its exec",
            () -> ProcessHandle.of(daemon).flatMap(p -> p.info().command()).orElse("").endsWith("sleep"));
        assertHealed(sentence("stopped", "wrapped.sh", daemon), pass("""
            stop './wrapped.sh'
            sh 'touch healed'"""));
    }

    @Test
    void aPathMeansThatFileAndANameAnyFileOfThatName() throws Exception {
        String daemon = "#!/bin/sh\necho $$ >\"$0.new\"; mv \"$0.new\" \"$0.pid\"; sleep 300; :\n";
        long here = running("twin.sh", daemon), there = running("other/twin.sh", daemon);
        assertHealed(sentence("stopped", "twin.sh", here), pass("""
            stop './twin.sh'
            sh 'touch healed'"""));
        assertTrue(ProcessHandle.of(there).isPresent());
    }

    @Test
    void customGroovyCodeRunsOnlyAsAStep() throws Exception {
        rules("""
            call { new File('%s/plain') << 'x' }
            if (1 > 2) run 'false' else call { println 'healing' }
            sh 'touch healed'""".formatted(folder));
        String asked = home.watchdog("validate").out() + home.watchdog("--dry-run").out();
        assertTrue(asked.contains("touch healed") && !asked.contains("healing"), asked);
        assertFalse(Files.exists(folder.resolve("plain")));
        home.watchdog();
        assertEquals("x", Files.readString(folder.resolve("plain")));
    }

    @Test
    void thePassNeverStopsItselfNorWhoCalledIt() throws Exception {
        String keeper = folder.getFileName() + "-keeper.sh"; // other test runs have processes too
        rules("""
            stop '%s watch'
            stop 'java -Dkeeper=%s'
            sh 'touch healed'""".formatted(keeper, folder));
        var java = new ArrayList<>(Run.process("--state", "state"));
        java.add(1, "-Dkeeper=" + folder);
        script(keeper, "#!/bin/sh\n" + String.join(" ", java) + " >out; echo $? >exit\n");
        long other = running("other/" + keeper,
            "#!/bin/sh\necho $$ >\"$0.new\"; mv \"$0.new\" \"$0.pid\"; sleep 300; :\n", "watch");
        start(folder + "/" + keeper, "watch").waitFor();
        assertEquals("0", Files.readString(folder.resolve("exit")).trim());
        String out = Files.readString(folder.resolve("out"));
        assertTrue(out.contains(sentence("stopped", keeper, other) + "; "
            + sentence("nothing runs", "java -Dkeeper=" + folder)), out);
    }

    @Test
    void aPatternThatIsTooShortToBeSafeIsRefused() {
        assertRefused(sentence("too short", "ab"), "stop 'ab'");
        assertRefused(sentence("interpreter", "python3.11"), "stop 'python3.11'");
        assertRefused("stop takes the words of the service itself; for a command write: run 'killall svc'",
            "stop 'killall svc'");
    }

    @ParameterizedTest
    @ValueSource(strings = {"stop ''", "stop '  '", "stop([])", "stop(['', 'run'])", "stop null",
        "String none = ''; stop none"})
    void anEmptyPatternIsRefused(String stop) {
        assertRefused(sentence("empty command"), stop);
    }

    @Test
    void commandsThatCannotBeSplitAreMistakesOfTheRules() {
        var pass = pass("""
            stop ''
            start 'svc "oops', log: 'svc.log'
            run " ", timeout: 1.second""");
        assertEquals(2, pass.exit(), pass.out() + pass.err());
        assertEquals(List.of("rules.groovy:7: " + sentence("empty command")
            + "; write a program, for example 'cloudflared tunnel run'"),
            pass.err().lines().filter(line -> line.startsWith("rules")).toList());
    }

    @Test
    void moreThanAHandfulIsRefused() throws Exception {
        List<Long> crowd = new ArrayList<>();
        script("crowd.pl", DAEMON.replace("$0.pid", "$0.$ARGV[0].pid"));
        for (int i = 0; i < 6; i++) crowd.add(started("crowd.pl." + i + ".pid", folder + "/crowd.pl",
            "" + i));
        assertRefused(sentence("too many", "./crowd.pl"), "stop './crowd.pl'");
        assertEquals(crowd, crowd.stream().filter(RestartTest::alive).toList());
        ProcessHandle.of(crowd.get(0)).orElseThrow().destroyForcibly();
        Wait.until("one to be gone", () -> !alive(crowd.get(0)));
        assertHealed("stopped crowd.pl (pid ", pass("""
            stop './crowd.pl'
            sh 'touch healed'"""));
        assertEquals(List.of(), crowd.stream().filter(RestartTest::alive).toList());
    }

    @Test
    void anotherUsersProcessIsLeftAloneAndNothingIsStarted() throws Exception {
        assumeTrue(ROOT && Files.exists(Path.of("/usr/bin/setpriv")),
            "only root can make another user's process");
        script("theirs.pl", DAEMON);
        Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxrwxrwx"));
        long pid =
            started("theirs.pl.pid", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            folder + "/theirs.pl");
        Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxr-xr-x"));
        assertRefused(sentence("another user's", "theirs.pl", pid), "stop './theirs.pl'");
        assertTrue(alive(pid));
    }

    /** A service manager, here a shell, waits a moment before it starts its service again. */
    @Test
    void whatSomethingElseStartsAgainIsNotStartedBesideIt() throws Exception {
        script("kept.pl", DAEMON.replace("open my", "open my $runs, '>>', 'runs'; print $runs qq(x\\n);"
            + " close $runs; open my"));
        script("manager.sh", "#!/bin/sh\nwhile :; do ./kept.pl; sleep 0.1; done\n");
        started("kept.pl.pid", folder + "/manager.sh");
        assertUnhealthy(sentence("started by others"), pass("""
            stop './kept.pl'
            start './kept.pl'
            sh 'touch healed'"""));
        Wait.until("its second run", () -> Files.readAllLines(folder.resolve("runs")).size() == 2);
        assertHealed("stopped kept.pl", pass("""
            stop './kept.pl'
            sh 'touch healed'"""));
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void aServerAndItsWorkersAreOneService(boolean otherUser) throws Exception {
        assumeTrue(ROOT || !otherUser, "only root can have workers of another user");
        String worker = otherUser ? "$> = 65534; sleep 300; exit" : "sleep 300; exit";
        long pid = running("server.pl", DAEMON.replace("open my", "for (1..8) { if (!($p = fork)) { " + worker
            + " } $all .= qq($p\\n) } open my $c, '>', 'workers'; print $c $all; close $c; open my"));
        List<Long> workers =
            Files.readAllLines(folder.resolve("workers")).stream().map(Long::valueOf).toList();
        assertHealed(sentence("stopped", "server.pl", pid), pass("""
            stop './server.pl'
            sh 'touch healed'"""));
        assertEquals(8, workers.size());
        assertEquals(List.of(), workers.stream().filter(RestartTest::alive).toList());
    }

    /** It starts a last child when it is asked to end, and does not wait for it. */
    @Test
    void aWorkerThatIsReplacedMeanwhileEndsToo() throws Exception {
        script("worker.pl", DAEMON);
        long pid = running("master.pl", DAEMON
            .replace("alarm", "$SIG{TERM} = sub { $end = 1 }; alarm")
            .replace("1 while sleep 1000;", "sleep 1 until $end; fork or exec './worker.pl';"
                + " sleep 1 until -e 'worker.pl.pid';"));
        assertHealed(sentence("stopped", "master.pl", pid), pass("""
            stop './master.pl'
            sh 'touch healed'"""));
        assertFalse(alive(number("worker.pl.pid")));
    }

    /** What a service does after its start, by which its words no longer show. */
    private static final Map<String, String> DISGUISES = Map.of(
        "goes to the background", "#!/bin/sh\n(sleep 300; :) & echo $! >new; mv new pid\n",
        "renames itself", "#!/usr/bin/perl\n$0 = 'idle'; system qq(echo $$ >new; mv new pid); sleep 300;\n",
        "runs something else", "#!/bin/sh\necho $$ >new; mv new pid; exec sleep 300\n",
        "deletes its file", "#!/bin/sh\nrm \"$0\"; echo $$ >new; mv new pid; sleep 300; :\n");

    @ParameterizedTest
    @ValueSource(strings = {"goes to the background", "renames itself", "runs something else",
        "deletes its file"})
    void whatStartStartedIsStoppedThoughItsWordsNoLongerShow(String disguise) throws Exception {
        script("svc", DISGUISES.get(disguise));
        pass("start './svc old'", "within 100.milliseconds");
        Wait.until("the service", () -> Files.exists(folder.resolve("pid")));
        long pid = number("pid");
        assertTrue(alive(pid));
        script("svc", "#!/bin/sh\n");
        assertHealed("stopped svc (pid " + pid + ")", pass("""
            stop './svc old'
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    /** Ticks since the boot, so that no clock that is set makes it another process. */
    @Test
    void aStartIsRecordedWithoutTheClock() throws Exception {
        script("svc.pl", DAEMON.replace("alarm", "system 'touch healed'; alarm"));
        assertHealed(sentence("started", "svc.pl"), pass("start './svc.pl'"));
        long pid = number("svc.pl.pid");
        try (var files = Files.list(home.state().resolve("started"))) {
            Path record = files.filter(file -> !file.toString().endsWith(".log")).findFirst().orElseThrow();
            assertEquals(pid + " " + stat(pid)[19], Files.readString(record), "its ticks");
        }
    }

    /** As `watchdog restart` does it before the first pass after a boot. */
    @Test
    void aRecordOfAnEarlierBootStopsNothing() throws Exception {
        Process leader = start("setsid", "-w", "sh", "-c", "sleep 300 & echo $! $$ >ids.new; mv ids.new ids");
        Wait.until("the session", () -> Files.exists(folder.resolve("ids")) && !leader.isAlive());
        String[] ids = Files.readString(folder.resolve("ids")).strip().split(" ");
        pass("stop './svc old'", "within 100.milliseconds");
        Path records = Files.createDirectories(home.state().resolve("started"));
        String name = Text.hash("it") + "-" + Text.hash("[./svc, old]");
        Files.writeString(records.resolve(name + "-0badb007"), ids[1] + " 77");
        // What a service without a log prints is kept beside the records, and is none.
        Files.writeString(records.resolve(name + CommandRunner.BOOT + ".log"), ids[1] + " 77");
        home.watchdog("restart", "it");
        assertTrue(alive(Long.parseLong(ids[0])));
        tool("kill", ids[0]);
    }

    @Test
    void whatStartStartedIsStoppedByWordsThatWereEditedSince() throws Exception {
        script("svc.pl", DAEMON);
        script("other.pl", DAEMON);
        String other = "start './other.pl'";
        passes(watch("start './svc.pl old'", "within 100.milliseconds")
            + watch(other, "within 100.milliseconds").replace("'it'", "'other'"));
        Wait.until("the services", () -> Files.exists(folder.resolve("svc.pl.pid"))
            && Files.exists(folder.resolve("other.pl.pid")));
        long old = number("svc.pl.pid");
        pass("""
            stop './svc.pl new'
            start './svc.pl new'""", "within 100.milliseconds");
        assertFalse(alive(old));
        assertTrue(alive(number("other.pl.pid")));
    }

    /** As nginx does: `nginx: master process nginx -c file`. */
    @Test
    void aTitleThatShowsTheWordsIsFound() throws Exception {
        long pid = running("titled.pl",
            DAEMON.replace("alarm", "$0 = qq(perl: master process perl $0 now); alarm"));
        Path title = Path.of("/proc/" + pid + "/cmdline");
        Wait.until("its title", () -> Files.readString(title).contains("master"));
        assertHealed(sentence("nothing runs", "perl " + folder + "/titled.pl later"), pass("""
            stop "perl $folder/titled.pl later"
            sh 'touch healed'"""));
        Files.delete(folder.resolve("healed"));
        assertHealed(sentence("stopped", "perl", pid), pass("""
            stop "perl $folder/titled.pl now"
            sh 'touch healed'"""));
        assertFalse(alive(pid));
    }

    @Test
    void aProcessOfAContainerIsLeftAlone() throws Exception {
        script("inside.sh", "#!/bin/sh\ntouch inside; sleep 300; :\n");
        Process container = start("unshare", "--pid", "--fork", "--kill-child", folder + "/inside.sh");
        Wait.until("the container", () -> Files.exists(folder.resolve("inside")) || !container.isAlive());
        assumeTrue(container.isAlive(), "no pid namespace can be made here");
        assertHealed(sentence("nothing runs", "./inside.sh"), pass("""
            stop './inside.sh'
            sh 'touch healed'"""));
        assertTrue(container.isAlive());
    }

    // ---- start --------------------------------------------------------------------------------------------

    @Test
    void aProgramThatCannotBeStartedIsNamedWithTheReason() throws Exception {
        script("plain.pl", DAEMON);
        Files.setPosixFilePermissions(folder.resolve("plain.pl"),
            PosixFilePermissions.fromString("rw-r--r--"));
        script("foreign.sh", "#!/no/such/sh\n");
        script("foreign-env.sh", "#!/usr/bin/env -S LANG=C nosuchinterpreter -u\n");
        script("windows.sh", "#!/bin/sh\r\nexit\r\n");
        Files.createDirectory(folder.resolve("place"));
        var pass = passes("""
            path "$folder/place"
            def tries = [absent: './absent', absentOnPath: 'no-such-program now', plain: './plain.pl',
                         foreign: './foreign.sh', foreignEnv: './foreign-env.sh', windows: './windows.sh',
                         place: './place']
            tries.each { String name, String program ->
                watch(name) {
                    command 'test -e healed'
                    attempts 1
                    within 1.second
                    restart { start program; sh "touch later-$name" }
                }
            }
            """);
        assertEquals(1, pass.exit(), pass.out() + pass.err());
        assertLine(pass, "absent", sentence("no file", folder + "/absent"));
        assertLine(pass, "absentOnPath", sentence("no program", "no-such-program", folder));
        assertLine(pass, "plain", sentence("not executable", folder + "/plain.pl"));
        assertLine(pass, "foreign", sentence("no interpreter", "foreign.sh"));
        assertLine(pass, "foreignEnv", sentence("no interpreter", "foreign-env.sh"));
        assertLine(pass, "windows", sentence("no interpreter", "windows.sh"));
        assertLine(pass, "place", sentence("a folder", folder + "/place"));
        // The others do start; how soon they have ended depends on the machine.
        for (String name : List.of("absent", "absentOnPath", "plain", "place"))
            assertFalse(Files.exists(folder.resolve("later-" + name)), name);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", ", log: 'svc.log'"})
    void oneThatDiesAtOnceFailsWithItsExitCodeAndLastWords(String log) throws Exception {
        Files.writeString(folder.resolve("svc.log"), "of yesterday\n");
        script("dies.sh", "#!/bin/sh\necho starting; echo 'no credentials for tunnel' >&2; exit 3\n");
        var pass = pass("start './dies.sh'%s".formatted(log));
        assertUnhealthy(sentence("ended", "dies.sh", 3) + ": ", pass);
        assertUnhealthy("no credentials for tunnel", pass);
        assertFalse(pass.out().contains("yesterday"), pass.out());
    }

    @Test
    void oneThatDiesWhileItIsWaitedForIsReportedWithoutWaitingOn() throws Exception {
        script("late.sh", "#!/bin/sh\nsleep 0.5; echo 'port is taken'; exit 4\n");
        var pass =
            pass("start './late.sh', log: 'late.log'", "within 5.minutes");   // more than this test may take
        assertUnhealthy(sentence("ended", "late.sh", 4) + ": port is taken", pass);
    }

    @Test
    void aProgramThatGoesToTheBackgroundByItselfIsFine() throws Exception {
        script("forks.pl",
            DAEMON.replace("alarm", "system 'touch healed'; alarm")
            .replace("open my", "exit if fork; open my"));
        assertHealed(sentence("started", "forks.pl (pid "), pass("start './forks.pl'"));
        assertTrue(alive(number("forks.pl.pid")));
        Files.delete(folder.resolve("healed"));
        long first = number("forks.pl.pid");
        assertHealed(sentence("stopped", "forks.pl", first), pass("""
            stop './forks.pl'
            start './forks.pl'"""));
        assertFalse(alive(first));
    }

    /** Cron ends its job's process group, and waits for whoever holds the job's output. */
    @Test
    void theDaemonOutlivesThePassAndItsProcessGroupAndHoldsNothingOfTheirs() throws Exception {
        script("stays.pl", DAEMON.replace("alarm", "system 'touch healed'; alarm"));
        rules("start './stays.pl', log: 'stays.log'");
        script("job.sh",
            "#!/bin/sh\nexec 9>held\n" + String.join(" ", Run.process("--state", "state"))
            + " 2>&1\nexec sleep 300 >/dev/null 2>&1\n");
        Process job = start("setsid", folder + "/job.sh");
        String said = new String(job.getInputStream().readAllBytes());   // ends although the daemon lives
        assertTrue(said.startsWith("it  healed"), said);
        long pid = number("stays.pl.pid");
        tool("kill", "-KILL", "--", "-" + job.pid());
        job.waitFor();
        assertTrue(alive(pid));
        assertEquals(pid, session(pid));
        assertNotEquals(job.pid(), session(pid));
        assertEquals("/dev/null", held(pid, 0));
        assertEquals(folder + "/stays.log", held(pid, 1));
        assertEquals(folder + "/stays.log", held(pid, 2));
        assertFalse(Files.exists(Path.of("/proc/" + pid + "/fd/9")));
        assertEquals(folder.toString(), Files.readSymbolicLink(Path.of("/proc/" + pid + "/cwd")).toString());
    }

    @ParameterizedTest
    @ValueSource(strings = {"perl", ""})
    void withoutSetsidPerlOrTheShellStarts(String tool) throws Exception {
        script("svc.sh",
            "#!/bin/sh\n: >healed; echo $$ >new; /bin/mv new pid; while :; do /bin/sleep 1; done\n");
        Files.createDirectory(folder.resolve("bin"));
        if (!tool.isEmpty()) Files.createSymbolicLink(folder.resolve("bin/perl"), Path.of("/usr/bin/perl"));
        home.env("PATH", folder + "/bin");
        String rules = watch("stop './svc.sh'; %s", "within 5.seconds").replace("'test ", "'/usr/bin/test ");
        assertHealed(sentence("started", "svc.sh"), passes(rules.formatted("start './svc.sh'")));
        long pid = number("pid");
        assertEquals(tool.isEmpty(), session(pid) != pid);
        Files.delete(folder.resolve("healed"));
        assertHealed(sentence("stopped", "svc.sh", pid), passes(rules.formatted("sh ': >healed'")));
    }

    /** For its last words; it may print for years. */
    @Test
    void withoutALogTheOutputIsKeptForAMoment() throws Exception {
        script("talks.pl", DAEMON.replace("alarm", "system 'echo hello; touch healed'; alarm"));
        assertHealed(sentence("started", "talks.pl"), pass("start './talks.pl'"));
        long pid = number("talks.pl.pid");
        Path output = Path.of(held(pid, 1));
        Path old = output.resolveSibling("a-b"), log = output.resolveSibling("a-b.log");
        Files.writeString(old, "77 0badb007 77"); // of an earlier boot
        Files.writeString(log, "old");
        assertEquals(List.of("/dev/null", output.toString()), List.of(held(pid, 0), held(pid, 2)));
        assertTrue(output.startsWith(home.state().resolve("started")), output.toString());
        assertEquals("hello\n", Files.readString(output));
        home.watchdog();
        assertFalse(Files.exists(old) || Files.exists(log));
        assertEquals("hello\n", Files.readString(output));
        Files.writeString(output, "x".repeat(1 << 20) + "\n");
        home.watchdog();
        assertEquals("", Files.readString(output));
    }

    @Test
    void theLogIsContinued() throws Exception {
        Files.writeString(folder.resolve("svc.log"), "before\n");
        script("talks.pl", DAEMON.replace("alarm", "system 'echo now; echo loud >&2; touch healed'; alarm"));
        assertHealed(sentence("started", "talks.pl"), pass("start './talks.pl', log: 'svc.log'"));
        assertEquals("before\nnow\nloud\n", Files.readString(folder.resolve("svc.log")));
    }

    @Test
    void aLogBeyondAMebibyteBeginsAnewAndKeepsTheOldOne() throws Exception {
        String old = "x".repeat(1 << 20) + "\n";
        Files.writeString(folder.resolve("svc.log"), old);
        script("talks.pl", DAEMON.replace("alarm", "system 'echo now; touch healed'; alarm"));
        assertHealed(sentence("started", "talks.pl"), pass("start './talks.pl', log: 'svc.log'"));
        assertEquals("now\n", Files.readString(folder.resolve("svc.log")));
        assertEquals(old, Files.readString(folder.resolve("svc.log.old")));
    }

    @Test
    void aStartThatIsStoppedWithTheSameWordsRunsOnceAfterTwoPasses() throws Exception {
        String longWord = "x".repeat(6000);   // beyond the page that Java reads of a command line
        script("svc.pl", DAEMON.replace("alarm", "system 'touch healed'; alarm"));
        String steps = """
            stop "./svc.pl 'two words' \\$HOME %1$s"
            start "./svc.pl 'two words' \\$HOME %1$s\"""".formatted(longWord);
        assertHealed("so nothing was stopped; " + sentence("started", "svc.pl"), pass(steps));
        long first = number("svc.pl.pid");
        Files.delete(folder.resolve("healed"));
        assertHealed(sentence("stopped", "svc.pl", first) + "; " + sentence("started", "svc.pl"),
            pass(steps));
        assertFalse(alive(first));
        assertTrue(alive(number("svc.pl.pid")));
        ProcessHandle.of(number("svc.pl.pid")).orElseThrow()
            .destroyForcibly();   // Java does not show words this long
    }

    // ---- run, sh, pause -----------------------------------------------------------------------------------

    @Test
    void aStepThatFailsEndsTheRemedyAndIsNamed() throws Exception {
        script("fails.sh", "#!/bin/sh\necho one; echo 'disk is full'; exit 7\n");
        assertUnhealthy(sentence("ran", "true") + ", then " + sentence("failed", "./fails.sh now"), pass("""
            run 'true'
            run './fails.sh now'
            sh 'touch healed'"""));
        assertFalse(Files.exists(folder.resolve("healed")));
    }

    @Test
    void aRunThatTakesTooLongIsEndedWithItsTree() throws Exception {
        script("slow.sh", "#!/bin/sh\necho thinking\nsleep 300 & echo $! >child\nwait\n");
        assertUnhealthy(sentence("too slow", "./slow.sh"), pass("run './slow.sh', timeout: 1.second"));
        Wait.until("its child to be gone", () -> !alive(number("child")));
    }

    /** Children that are started while the tree is ended belong to its session. */
    @Test
    void aTreeThatGrowsIsEnded() throws Exception {
        script("child.sh", "#!/bin/sh\nsleep 20; :\n");   // not long, and not many, should this fail
        script("grows.sh", """
            #!/bin/sh
            echo thinking
            while [ $((n += 1)) -lt 300 ] && sleep 0.01; do "$PWD/child.sh" & done
            sleep 20
            """);
        assertUnhealthy(sentence("too slow", "./grows.sh"), pass("run './grows.sh', timeout: 1.second"));
        assertEquals(List.of(), ProcessHandle.allProcesses().filter(process -> Arrays.asList(
            process.info().arguments().orElse(new String[0])).contains(folder + "/child.sh")).toList());
    }

    @Test
    void aCommandEndsWithAPassThatASignalEndsAndTheNextPassGoesOn() throws Exception {
        script("slow.sh", "#!/bin/sh\nsleep 300 & echo $! >new; mv new child\nwait\n");
        rules("run './slow.sh', timeout: 1.minute");
        Process pass = start(Run.process("--state", "state").toArray(String[]::new));
        Wait.until("the command", () -> Files.exists(folder.resolve("child")));
        pass.toHandle().destroy();
        assertEquals(128 + 15, pass.waitFor());
        assertFalse(alive(number("child")));
        String printed = new String(pass.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(printed.contains(sentence("interrupted")), printed);
        assertTrue(home.watchdog("status", "--state", "state").out().contains("(interrupted)"));
        script("slow.sh", "#!/bin/sh\ntouch healed\n");
        assertEquals(0, home.watchdog("--state", "state").exit());
    }

    @Test
    void muchOutputIsReadAndItsEndIsShown() throws Exception {
        script("chatty.pl", """
            #!/usr/bin/perl
            print 'x' x 1_000_000, qq(\\n) for 1 .. 50;
            print qq(the end\\n);
            exit 7;
            """);
        Run pass = pass("run './chatty.pl'");
        assertUnhealthy(sentence("failed", "./chatty.pl"), pass);
        assertUnhealthy("xxx the end", pass);
    }

    @Test
    void endlessOutputIsEnded() {
        assertUnhealthy(sentence("too much output", "yes"), pass("run 'yes'"));
    }

    @Test
    void aGrandchildThatKeepsTheOutputOpenDoesNotHoldThePass() throws Exception {
        assertHealed("ran", pass("sh 'sleep 300 & echo $! >child; touch healed'"));
        assertTrue(alive(number("child")));
        ProcessHandle.of(number("child")).orElseThrow().destroyForcibly();
    }

    @Test
    void pauseWaits() {
        long began = System.nanoTime();
        assertHealed("ran", pass("""
            pause 400.milliseconds
            sh 'touch healed'"""));
        assertTrue(System.nanoTime() - began >= 400_000_000);
    }

    @Test
    void aCommandIsSplitAsAShellWouldAndNoShellSeesIt() throws Exception {
        script("words.sh", "#!/bin/sh\nprintf '%s\\n' \"$@\" >>words\n");
        assertHealed("ran", pass("""
            run './words.sh one  "two words" \\'$HOME\\' ; | `id` $(id) * ~ a\\\\\\\\ b "it\\'s" ""'
            def home = '$HOME'
            run(['./words.sh', "a list; $home", 80, ''])
            sh 'touch healed'"""));
        assertEquals(List.of("one", "two words", "$HOME", ";", "|", "`id`", "$(id)", "*", "~", "a\\", "b",
            "it's", "",
            "a list; $HOME", "80", ""), Files.readAllLines(folder.resolve("words")));
    }

    @Test
    void aNulInAWordFailsTheStepOnly() {
        assertUnhealthy(sentence("cannot run", "echo "), pass("run(['echo', 'a\\0b'])"));
    }

    // ---- the remedy ---------------------------------------------------------------------------------------

    @Test
    void theFoldersOfPathComeBeforePath() throws Exception {
        Files.createDirectory(folder.resolve("tools"));
        script("tools/touch", "#!/bin/sh\necho mine >healed\n");
        script("calls.sh", "#!/bin/sh\ntouch healed\n");
        for (String step
            : List.of("run 'touch healed'", "sh 'touch healed'", "run './calls.sh'",
            "start 'touch healed'")) {
            assertHealed("expected exit code 0",
                passes("path \"$folder/tools\"\n" + watch(step, "within 5.seconds")));
            assertEquals("mine\n", Files.readString(folder.resolve("healed")), step);
            Files.delete(folder.resolve("healed"));
            Files.deleteIfExists(home.state().resolve("memory.json"));   // else the restart limit is reached
        }
    }

    /** Also under cron, whose PATH is short, and as `validate` says. */
    @Test
    void aProgramInOneOfTheUsualFoldersNeedsNoPath() throws Exception {
        script(".local/bin/heal-it", "#!/bin/sh\ntouch healed\n");
        home.env("PATH", "/usr/bin:/bin");
        assertHealed(sentence("ran", "heal-it"), pass("run 'heal-it'"));
        assertEquals(0, home.watchdog("validate").exit());
    }

    @Test
    void aRemedyIsPlainGroovy() throws Exception {
        assertHealed(Stream.of("touch a", "touch b", "touch healed")
            .map(command -> sentence("ran", command)).collect(Collectors.joining("; ")), pass("""
            for (name in ['a', 'b']) run "touch $name"
            if (host != '') run 'touch healed'"""));
    }

    @Test
    void anErrorInTheRemedyIsReportedWithItsLine() {
        assertUnhealthy(sentence("error in the rules"), pass("""
            call { if (host != '') throw new IllegalStateException('not tonight') }
            sh 'touch healed'"""));
        assertFalse(Files.exists(folder.resolve("healed")));
    }

    @Test
    void oneRemedyOfThreeWatchesRunsOnceAndHealsAllThree() throws Exception {
        var pass = passes("""
            def tunnel = restart { sh 'echo once >>restarts; touch healed' }
            for (name in ['a', 'b', 'c'])
                watch(name) {
                    command 'test -e healed'
                    attempts 1
                    restart tunnel
                }
            """);
        assertEquals(0, pass.exit(), pass.out() + pass.err());
        assertEquals(List.of("a  healed", "b  healed", "c  healed"),
            pass.out().lines().map(line -> line.substring(0, 9)).toList());
        assertEquals("once\n", Files.readString(folder.resolve("restarts")));
    }

    // ---- how it is said -----------------------------------------------------------------------------------

    private static String sentence(String situation, Object... values) {
        return SENTENCES.get(situation).formatted(values);
    }

    private Run pass(String steps) { return pass(steps, "within 2.seconds"); }

    private Run pass(String steps, String within) { return passes(watch(steps, within)); }

    private void rules(String steps) { home.rules(declared(watch(steps, "within 5.seconds"))); }

    private Run passes(String rules) { return home.rules(declared(rules)).watchdog(); }

    private String declared(String rules) { return "def folder = '" + folder + "'\n" + rules; }

    private static String watch(String steps, String within) {
        return """
            watch('it') {
                command 'test -e healed'
                attempts 1
                %s
                restart {
                    %s
                }
            }
            """.formatted(within, steps);
    }

    private static void assertHealed(String words, Run pass) {
        assertEquals(0, pass.exit(), pass.out() + pass.err());
        assertTrue(pass.out().startsWith("it  healed") && pass.out().contains(words), pass.out());
    }

    private static void assertUnhealthy(String words, Run pass) {
        assertEquals(1, pass.exit(), pass.out() + pass.err());
        assertTrue(pass.out().startsWith("it  unhealthy") && pass.out().contains(words), pass.out());
    }

    private static void assertLine(Run pass, String name, String words) {
        assertTrue(pass.out().lines().anyMatch(line -> line.startsWith(name + " ") && line.contains(words)),
            words + " in\n" + pass.out());
    }

    /** The sentence is said, and the step after it is not taken. */
    private void assertRefused(String words, String stop) {
        var pass = pass(stop + "\nsh 'touch healed'");
        assertNotEquals(0, pass.exit(), pass.out());
        assertTrue((pass.out() + pass.err()).contains(words), pass.out() + pass.err());
        assertFalse(Files.exists(folder.resolve("healed")));
    }

    // ---- processes ----------------------------------------------------------------------------------------

    private String script(String name, String text) throws IOException {
        Path file = folder.resolve(name);
        Files.createDirectories(file.getParent());
        Files.writeString(file, text);
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
        return file.toString();
    }

    /** Starts a script that says its number in NAME.pid; as a person would, who knows nothing of watchdog. */
    private long running(String name, String text, String... words) throws IOException {
        return started(name + ".pid",
            Stream.concat(Stream.of(script(name, text)), Stream.of(words)).toArray(String[]::new));
    }

    private long started(String pidFile, String... words) throws IOException {
        start(words);
        Wait.until(pidFile, () -> Files.exists(folder.resolve(pidFile)));
        return number(pidFile);
    }

    private Process start(String... words) throws IOException {
        var builder = new ProcessBuilder(words).directory(folder.toFile()).redirectErrorStream(true);
        while (true) {
            try {
                started.add(builder.start());
                return started.get(started.size() - 1);
            } catch (IOException e) { // another test forks while this one's script is open for writing
                if (!e.getMessage().contains("Text file busy")) throw e;
            }
        }
    }

    private static void tool(String... words) throws Exception {
        assertEquals(0, new ProcessBuilder(words).inheritIO().start().waitFor(), String.join(" ", words));
    }

    private long number(String file) {
        try {
            return Long.parseLong(Files.readString(folder.resolve(file)).trim());
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    /** A zombie has no program any more. */
    private static boolean alive(long pid) {
        return ProcessHandle.of(pid).flatMap(process -> process.info().command()).isPresent();
    }

    private static String[] stat(long pid) {
        try {
            String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
            return stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static char state(long pid) { return stat(pid)[0].charAt(0); }

    private static long session(long pid) { return Long.parseLong(stat(pid)[3]); }

    private static String held(long pid, int descriptor) throws IOException {
        return Files.readSymbolicLink(Path.of("/proc/" + pid + "/fd/" + descriptor)).toString();
    }
}
