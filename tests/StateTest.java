import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.regex.Pattern;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a pass leaves for the next: readable, private, whole; and what happens when it is not. */
class StateTest {
    private static final TimeZone ZONE = TimeZone.getDefault();

    /** What people read, by situation. */
    private static final Map<String, String> SENTENCES = Map.ofEntries(
        entry("unreadable", "watchdog: memory.json could not be read (%s), so restart limits may not "
            + "hold and messages may be lost; watchdog has renamed it to %s\n"),
        entry("unreadable, kept",
            "watchdog: memory.json could not be read (%s), so restart limits may not hold and messages may "
                + "be lost\n"),
        entry("damage", "it is damaged"),
        entry("no folder", "watchdog: cannot use the state folder %s (%s), so restart limits and "
            + "pauses may not hold, passes may overlap and messages may be repeated; make it writable or use "
            + "--state DIR\n"),
        entry("read-only", "%s: Read-only file system"),
        entry("other owner", "%s belongs to user nobody, who could change it; fix it with: chown 0 '%1$s'"),
        entry("open folder", "other users can change %s; fix it with: chmod go-w '%1$s'"),
        entry("too long", "it is too long"),
        entry("no log", ", without its log: disk/log cannot be written"),
        entry("set aside", "watchdog: %s.broken was not a file of yours; watchdog has renamed it\n"),
        entry("full disk", "watchdog: memory.json cannot be written (No space left on device), "
            + "so restart limits may not hold and messages may be repeated\n"),
        entry("busy", "watchdog: another pass is running (pid %s, since 2026-03-01 08:00)\n"),
        entry("hangs", "watchdog: another pass is running (pid %s, since 2026-03-01 08:00); "
            + "if it hangs, end it with kill -9\n"),
        entry("paused", "plex is paused until %s; end the pause with: watchdog resume plex\n"),
        entry("removed", "plex is no longer watched: plex was removed from the rules while it was down: "
            + "expected status == 200, but status was 530; got 'error code: 1033'."),
        entry("status, new", """
            plex: new, not checked yet
                restarts left: 2 of 2 per 1 h
                uptime: unknown in 24 h
            rules: RULES
            no pass yet
            """),
        entry("status, healed", """
            plex: healthy since 2026-03-01 08:00
                last restart 2026-03-01 08:00: run 'tests/heal' (helped)
                restarts left: 1 of 2 per 1 h
                uptime: unknown in 24 h
            rules: RULES
            last pass 5 min ago
            """),
        entry("status, down", """
            plex: unhealthy since 2026-03-03 08:05: expected status == 200, but status was 530; \
            got 'error code: 1033'
                last restart 2026-03-03 08:05: run 'tests/heal' (did not help)
                restarts left: 1 of 2 per 1 h
                uptime: 0 % in 24 h, 0 % in 2 days
            rules: RULES
            last pass 5 min ago
            """),
        entry("status, waiting", """
            not delivered yet to command false since 2026-03-01 08:00: plex is healthy again
            """),
        entry("status, cut off", "last restart 2026-03-01 08:00: run 'tests/heal' (interrupted)\n"));

    private static String sentence(String situation, Object... values) {
        String sentence = SENTENCES.get(situation);
        return values.length == 0 ? sentence : sentence.formatted(values);
    }

    @TempDir Path folder;
    private TestFolder home;
    private MutableClock clock;
    private Service plex;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    /** A service, and a remedy that heals it while no file says that it is stubborn. */
    @BeforeEach void aWatchedPlex() throws IOException {
        clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
        home = new TestFolder(folder);
        home.clock = clock;
        plex = new Service(folder, "plex");
        Path script = Files.createDirectory(folder.resolve("tests")).resolve("heal");
        Files.writeString(script, """
            #!/bin/sh
            echo now >> plex.restarts
            head -c 1000000 "$HOME"/.local/state/watchdog/rules-*/memory.json >aside.json 2>/dev/null
            test -e stubborn || touch plex.up
            """);
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
        home.rules("""
            watch('plex') {
                url '%s'
                healthy { status == 200 }
                attempts 1
                within 200.milliseconds
                limit 2, per: 1.hour
                restart { run 'tests/heal' }
            }
            """.formatted(plex.url()));
    }

    @AfterEach void close() { plex.close(); }

    // ---- what it looks like -----------------------------------------------------------------------------

    @Test void theStateIsATextThatPeopleCanRead() throws IOException {
        pass();
        assertEquals("""
            {"reported": {"brokenRules":false,"problemsHash":%d},
            "watches": {"plex":{"probe":"GET %s","state":"healthy","since":"2026-03-01T08:00:00Z","recent":"h",\
            "reportedInconclusive":false,"incident":{"since":"2026-03-01T08:00:00Z",\
            "reason":"expected status == 200, but status was 530; got 'error code: 1033'",\
            "relapses":0,\
            "healthySince":"2026-03-01T08:00:00Z","reported":["down","healed"],\
            "lastReport":"2026-03-01T08:00:00Z"},"restarts":[{"at":"2026-03-01T08:00:00Z",\
            "remedy":0,"what":"run 'tests/heal'","result":"helped"}]}},
            "outbox": []}
            """.formatted(List.of(List.of(), List.of()).hashCode(), plex.url()), memory());
    }

    @Test void theStateOfAnEarlierVersionIsRead() throws IOException {
        pass();
        Files.writeString(memoryFile(), memory().replaceFirst("\"reported\": .*?\\},", ""));
        assertEquals("", pass().err());
        assertTrue(memory().contains("\"restarts\":[{\"at\""), memory());
    }

    @Test void theIntentToRestartIsOnDiskBeforeTheFirstStep() throws IOException {
        pass();
        String then = Files.readString(folder.resolve("aside.json"));
        assertTrue(then.contains("\"what\":\"run 'tests/heal'\""), then);
        assertFalse(then.contains("\"result\""), then);
    }

    @Test void onlyItsOwnerCanReadIt() throws IOException {
        pass();
        assertEquals("rwx------", mode(home.state()));
        assertEquals("rw-------", mode(memoryFile()));
    }

    @Test void whatAKilledPassLeftHalfWrittenIsSweptAway() throws IOException {
        pass();
        Path old = Files.writeString(home.state().resolve(".memory.json123.tmp"), "{");
        Path young = Files.writeString(home.state().resolve("run-1.tmp"), "of a command that runs");
        Files.setLastModifiedTime(old, FileTime.from(clock.instant().minus(Duration.ofHours(25))));
        Files.setLastModifiedTime(young, FileTime.from(clock.instant()));
        pass();
        try (Stream<Path> files = Files.walk(folder)) {
            assertEquals(List.of(young), files.filter(file -> file.toString().endsWith(".tmp")).toList());
        }
    }

    @Test void aPassThatLearnsNothingWritesNothing() throws IOException {
        plex.start();
        pass();
        Object before = Files.getAttribute(memoryFile(), "unix:ino");
        pass();
        assertEquals(before, Files.getAttribute(memoryFile(), "unix:ino"));
    }

    /** The times that lie in the future are now those of the first pass, also for the passes after it. */
    @Test void afterTheClockWasSetBackTheLimitHoldsForItsTimeAndNoLonger() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        for (int i = 0; i < 3; i++) pass();
        clock.add(Duration.ofDays(-30));
        for (int i = 0; i < 12; i++) pass();
        assertEquals(2, plex.restarts(), "in the hour after the first pass");
        pass();
        assertEquals(3, plex.restarts());
    }

    @Test void checksAndDryRunsRememberNothing() throws IOException {
        home.watchdog("check");
        home.watchdog("--dry-run");
        assertFalse(Files.exists(memoryFile()));
        assertFalse(Files.exists(home.state().resolve("history.jsonl")));
        assertEquals(0, plex.restarts());
    }

    // ---- when it is damaged -----------------------------------------------------------------------------

    private static final List<String> DAMAGES = List.of("", " ", "{", "null", "[]", "42", "'text'", "{}",
        "{'watches':{}}", "{'watches':'one'}", "{'watches':[],'outbox':[]}",
        "{'watches':{'plex':{}},'outbox':[]}", "{'watches':{'plex':null},'outbox':[]}",
        "{'watches':{},'outbox':[{}]}", "{'watches':{'plex':{'state':'healthy',"
            + "'since':'yesterday','failures':0,'restarts':[]}},'outbox':[]}",
        "\0\0\0\0", "[".repeat(100_000), "{'format':99}");

    @TestFactory Stream<DynamicTest> aDamagedFileIsRenamedAndReportedAndThePassGoesOn() throws IOException {
        pass();
        return DAMAGES.stream().map(damage -> damage.replace('\'', '"')).map(damage ->
            dynamicTest("damage " + damage.replace('\0', '0').replaceFirst("(.{60}).*", "$1"), () -> {
                Files.writeString(memoryFile(), damage);
                Run run = pass();
                assertEquals(4, run.exit(), run.err());
                assertTrue(run.out().startsWith("plex  healthy "), run.out());
                assertEquals(sentence("unreadable", sentence("damage"), broken().get(0)), run.err());
                assertEquals(damage, Files.readString(broken().get(0)));
                assertEquals(new Run(0, "", ""), home.watchdog("--quiet"));
            }));
    }

    @Test void aFileThatIsCutAnywhereIsDamaged() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        pass();
        byte[] whole = Files.readAllBytes(memoryFile());
        for (int length = 0; length < whole.length; length += 23) {
            Files.write(memoryFile(), Arrays.copyOf(whole, length));
            plex.start();
            assertEquals(4, pass().exit(), "cut to " + length + " bytes");
            assertEquals(0, pass().exit());
        }
    }

    @Test void aFileWithOneWrongByteNeverEndsAPassInABug() throws IOException {
        plex.start();
        pass();
        byte[] whole = Files.readAllBytes(memoryFile());
        for (int at = 0; at < whole.length; at++) {
            byte[] wrong = whole.clone();
            wrong[at] ^= 1 << at % 8;
            Files.write(memoryFile(), wrong);
            Run run = pass();
            boolean reported = run.exit() == 4 && run.err().contains("could not be read");
            assertTrue(run.exit() == 0 || reported, at + ": " + run);
            assertTrue(run.out().startsWith("plex  healthy "), at + ": " + run);
        }
    }

    @Test void bytesThatAreNoTextAreDamage() throws IOException {
        plex.start();
        pass();
        Files.write(memoryFile(), new byte[] {(byte) 0xff, (byte) 0xfe, 0, (byte) 0xe9});
        Run run = pass();
        assertEquals(4, run.exit());
        assertEquals(sentence("unreadable", sentence("damage"), broken().get(0)), run.err());
    }

    @Test void ofDamagedFilesTheLastIsKept() throws IOException {
        plex.start();
        pass();
        for (int i = 0; i < 3; i++) {
            Files.writeString(memoryFile(), "broken " + i);
            pass();
        }
        assertEquals(1, broken().size());
        assertEquals("broken 2", Files.readString(broken().get(0)));
    }

    @Test void aDamagedFileIsNoReasonToRestartMoreThanTheLimit() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        pass();
        Files.writeString(memoryFile(), "{");
        for (int i = 0; i < 6; i++) pass();
        assertEquals(1 + 2, plex.restarts());
    }

    /** The other watches and messages count. */
    @TestFactory Stream<DynamicTest> aDamagedEntryIsLeftOutAlone() throws IOException {
        home.rules("notify command('/bin/false')\n" + Files.readString(folder.resolve("rules.groovy")));
        Files.createFile(folder.resolve("stubborn"));
        pass();
        String watches = "\"watches\": {", outbox = "\"outbox\": [", memory = memory();
        String event = outbox
            + memory.replaceAll("(?s).*\\[(\\{\"event\".*?\"hook\":\".*?\"\\}).*", "$1,");
        return Map.of("a watch that is empty", watches + "\"x\": {},", "a watch that is a list", watches
            + "\"x\": [],", "a watch of another time", watches + "\"x\": {\"since\":\"soon\"},",
            "a watch without its restarts", watches + "\"x\":"
                + memory.replaceAll("(?s).*?\"plex\":(.*?),\"restarts\":\\[.*", "$1},"),
            "a message that is null", outbox + "null,", "a message that is empty", outbox + "{},",
            "a message of no kind", event.replace("\"down\"", "\"up\""), "a message of the year 100000",
            event.replace("2026-03", "+100000-03")).entrySet().stream()
            .map(row -> dynamicTest(row.getKey(), () -> {
                int restarts = plex.restarts();
                String start = row.getValue().startsWith(watches) ? watches : outbox;
                Files.writeString(memoryFile(), memory.replace(start, row.getValue()));
                String damaged = memory();
                command("rm", "-f", memoryFile() + ".broken");
                Run run = pass();
                assertEquals(4, run.exit(), run.toString());
                assertTrue(run.err().contains(sentence("unreadable", sentence("damage"), broken().get(0))),
                    run.err());
                assertEquals(damaged, Files.readString(broken().get(0)));
                assertFalse(pass().err().contains("memory.json"));
                assertEquals(restarts + 1, plex.restarts(), "one of two was known");
                assertTrue(home.watchdog("status").out().contains(
                    "not delivered yet to command false since 2026-03-01 08:00: plex is down"),
                    "the message is known");
            }));
    }

    /** What stands in the place of an own file or folder is left alone, and the pass heals all the same. */
    @TestFactory Stream<DynamicTest> somethingElseInThePlaceOfAFileDoesNotStopThePass() throws IOException {
        pass();
        home.watchdog("pause", "plex", "--for", "1s");
        Path file = Files.writeString(folder.resolve("victim"), "victim\n");
        Path directory = Files.createDirectory(folder.resolve("victims"));
        return Stream.of("memory.json", "history.jsonl", "lock", "compiled", "paused").flatMap(name -> {
            Path at = home.state().resolve(name);
            boolean isFolder = Files.isDirectory(at);
            return Stream.of(
                strange(at, false, isFolder ? "a file" : "a folder", () ->
                    command(isFolder ? "touch" : "mkdir", at.toString())),
                strange(at, false, "a folder with a file", () -> command("mkdir", "-p", at + "/x")),
                strange(at, true, "a file of another user", () -> {
                    Files.writeString(at, "x");
                    give(at);
                }),
                strange(at, true, "a pipe that nobody writes to", () -> command("mkfifo", at.toString())),
                strange(at, true, "a link to nowhere", () ->
                    Files.createSymbolicLink(at, folder.resolve("nowhere"))),
                strange(at, true, "a link to a file", () -> Files.createSymbolicLink(at, file)),
                strange(at, true, "a link to a folder", () -> Files.createSymbolicLink(at, directory)),
                strange(at, true, "a device", () -> Files.createSymbolicLink(at, Path.of("/dev/zero"))));
        });
    }

    private interface Deed { void done() throws Exception; }

    private DynamicTest strange(Path at, boolean isSetAside, String what, Deed putting) {
        return dynamicTest(what + " in place of " + at.getFileName(), () -> {
            command("rm", "-rf", at.toString(), at + ".broken");
            putting.done();
            plex.stop();
            clock.add(Duration.ofDays(1));
            Run run = pass();
            assertTrue(run.out().startsWith("plex  healed "), run.toString());
            if (isSetAside) assertEquals(sentence("set aside", at), run.err());
            if (isSetAside) assertEquals(4, run.exit());
            assertEquals("victim\n", Files.readString(folder.resolve("victim")));
            assertEquals(0, folder.resolve("victims").toFile().list().length);
            if (!isSetAside) command("rm", "-rf", at.toString());
            assertEquals(new Run(0, "", ""), home.watchdog("--quiet"));
        });
    }

    @Test void aFileThatIsTooLongIsNotRead() throws IOException {
        plex.start();
        pass();
        for (String name : List.of("memory.json", "history.jsonl"))
            try (var file = new RandomAccessFile(home.state().resolve(name).toFile(), "rw")) {
                file.setLength(300 << 20);
            }
        Run run = pass();
        assertEquals(sentence("unreadable", sentence("too long"), broken().get(0)), run.err());
        assertEquals(new Run(0, "", ""), home.watchdog("--quiet"));
    }

    @Test void aLinkInThePlaceOfTheFileIsReplacedAndItsTargetIsNotWritten() throws IOException {
        plex.start();
        pass();
        Path memory = memoryFile(), victim = folder.resolve("victim.json");
        Files.move(memory, victim);
        Files.createSymbolicLink(memory, victim);
        String before = Files.readString(victim);
        plex.stop();
        pass();
        assertEquals(before, Files.readString(victim));
        assertFalse(Files.isSymbolicLink(memory));
    }

    // ---- when it cannot be written ----------------------------------------------------------------------

    @Test void withoutAStateFolderEachPassStillHealsAndWarns() {
        home.file("no-folder", "");
        for (int i = 0; i < 2; i++) {
            plex.stop();
            Run run = home.watchdog("--state", "no-folder");
            assertEquals(4, run.exit());
            assertTrue(run.out().startsWith("plex  healed "), run.out());
            assertTrue(run.err().matches(Pattern.quote(sentence("no folder", "PATH", "WHY"))
                .replace("PATH", "\\E.*\\Q").replace("WHY", "\\E.*\\Q")), run.err());
        }
        assertEquals("", home.watchdog("check").err(), "another folder is not concerned");
        assertEquals(0, home.watchdog("status", "--state", "no-folder").exit());
        assertEquals(4, home.watchdog("pause", "plex", "--state", "no-folder").exit());
    }

    /** Root may write everywhere, save for a disk that is mounted read-only. */
    @Test void withAReadOnlyFolderThePassGoesByWhatItCanReadAndLosesNothing() throws Exception {
        home.rules("notify command('/bin/false')\n" + Files.readString(folder.resolve("rules.groovy")));
        onDisk(disk -> {
            Files.createFile(folder.resolve("stubborn"));
            for (int i = 0; i < 2; i++) passOn("disk");
            Run before = home.watchdog("status", "--state", "disk");
            assertTrue(before.out().contains("restarts left: 0 of 2 per 1 h; the next one is possible at 2026-"),
                before.out());
            assertTrue(before.out().contains("not delivered yet to command false since "), before.out());
            String warning = sentence("no folder", onlyFolder(disk), sentence("read-only", onlyFolder(disk)));

            command("mount", "-o", "remount,ro", disk.toString());
            for (int i = 0; i < 2; i++) {
                Run run = passOn("disk");
                assertEquals(4, run.exit(), run.toString());
                assertTrue(run.out().startsWith("plex  unhealthy "), run.out());
                assertTrue(run.err().startsWith(warning), run.err());
            }
            assertEquals(2, plex.restarts(), "the limit holds, as the restarts can be read");

            command("mount", "-o", "remount,rw", disk.toString());
            Run after = home.watchdog("status", "--state", "disk");
            assertEquals(before.out().replaceAll("uptime.*|last pass.*", ""),
                after.out().replaceAll("uptime.*|last pass.*", ""));
        });
    }

    @Test void withAReadOnlyFolderAPauseStillHolds() throws Exception {
        onDisk(disk -> {
            home.watchdog("pause", "plex", "--state", "disk");
            command("mount", "-o", "remount,ro", disk.toString());
            Run run = passOn("disk");
            assertEquals(4, run.exit(), run.toString());
            assertEquals(0, plex.restarts());
        });
    }

    /** The output of commands then goes to new files of ours, unless others could replace those. */
    @Test void withAReadOnlyFolderNothingIsReadFromTheTempFolderOfOthers() throws Exception {
        onDisk(disk -> {
            command("mount", "-o", "remount,ro", disk.toString());
            Path temp = Path.of(System.getProperty("java.io.tmpdir"));
            home.rules(Files.readString(folder.resolve("rules.groovy"))
                + "watch('w') { command 'echo seen'; attempts 1; healthy { body == 'x' } }\n");
            for (String mode : List.of("755", "1777", "777")) {
                command("chmod", mode, temp.toString());
                plex.stop();
                Run run = passOn("disk");
                assertTrue(run.out().startsWith("plex  healed "), "also without one");
                assertEquals(!mode.equals("777"), run.out().contains("seen"), mode);
                assertEquals(0, temp.toFile().list().length);
            }
        });
    }

    @Test void aFolderOfAnotherUserIsNotRead() throws Exception {
        assumeTrue("root".equals(System.getProperty("user.name")), "only root can give a folder away");
        Files.createFile(folder.resolve("stubborn"));
        for (int i = 0; i < 2; i++) pass();
        command("chown", "nobody", home.state().toString());
        Run run = pass();
        assertEquals(4, run.exit());
        assertEquals(sentence("no folder", home.state(),
            sentence("other owner", home.state())), run.err());
        assertEquals(3, plex.restarts(), "what another user could have written counts for nothing");
    }

    /** What others wrote until it was closed is not ours. */
    @Test void aFolderThatOthersCanWriteIsNotUsedUntilItIsClosed() throws Exception {
        Files.createFile(folder.resolve("stubborn"));
        for (int i = 0; i < 2; i++) pass();
        command("chmod", "777", home.state().toString());
        String before = memory();
        Path planted = Files.writeString(home.state().resolve("planted"), "");
        give(planted);
        Run run = pass();
        assertEquals(4, run.exit(), run.toString());
        assertEquals(sentence("no folder", home.state(), sentence("open folder", home.state())), run.err());
        assertEquals(3, plex.restarts(), "what another user could have written counts for nothing");
        assertEquals(before, memory());
        command("chmod", "755", home.state().toString());
        assertEquals(sentence("set aside", planted), pass().err());
        assertEquals("rwx------", mode(home.state()));
        assertEquals(3, plex.restarts(), "the restarts that are known count");
    }

    /** The folder that others can write is `open`. */
    @TestFactory Stream<DynamicTest> aFolderThatOthersCouldReplaceIsNotUsed() throws Exception {
        Path open = Files.createDirectories(folder.resolve("open/inner")).getParent();
        command("chmod", "777", open.toString());
        Files.createSymbolicLink(open.resolve("link"), Files.createDirectory(folder.resolve("real")));
        return Stream.of("open", "open/inner", "open/link").map(state -> dynamicTest(state, () -> {
            plex.stop();
            clock.add(Duration.ofDays(1));
            Run run = passOn(state);
            assertEquals(4, run.exit(), run.toString());
            assertTrue(run.out().startsWith("plex  healed "), run.out());
            assertTrue(run.err().contains(sentence("open folder", open)), run.err());
        }));
    }

    @Test void compiledRulesOfAnotherUserAreNotRun() throws Exception {
        plex.start();
        pass();
        Path compiled = home.state().resolve("compiled");
        try (Stream<Path> files = Files.walk(compiled)) {
            for (Path file : files.filter(file -> file.toString().endsWith(".class")).toList())
                give(file);
        }
        home.rules("this does not compile");
        assertEquals(2, pass().exit(), "the last working rules are not those of another user");
    }

    @Test void twoNamesOfOneRulesFileShareOneState() throws Exception {
        Path names = Files.createDirectory(folder.resolve("names"));
        Files.createSymbolicLink(names.resolve("other.groovy"), folder.resolve("rules.groovy"));
        Files.createFile(folder.resolve("stubborn"));
        for (String name : List.of("rules.groovy", "names/other.groovy", "names/../rules.groovy"))
            home.watchdog("--rules", name);
        assertEquals(1, home.state().getParent().toFile().list().length);
        assertEquals(2, plex.restarts(), "one limit");
    }

    /** Said each time; with --quiet once, and only of a pass that seems to hang. */
    @Test void aPassThatHoldsTheLockIsReportedWithItsNumberAndTime() throws Exception {
        plex.start();
        Instant began = clock.instant();
        pass();
        long pid = ProcessHandle.current().pid();
        Path lock = home.state().resolve("lock");
        Files.setLastModifiedTime(lock, FileTime.from(began));
        try (var channel = FileChannel.open(lock, StandardOpenOption.WRITE); var held = channel.lock()) {
            assertEquals(new Run(75, "", sentence("busy", pid)), home.watchdog(), "held by " + held);
            assertEquals(new Run(75, "", ""), home.watchdog("--quiet"));
            clock.add(Duration.ofMinutes(15));
            for (int i = 0; i < 2; i++) {
                assertEquals(new Run(75, "", i == 0 ? sentence("hangs", pid) : ""), home.watchdog("--quiet"));
                assertEquals(new Run(75, "", sentence("hangs", pid)), home.watchdog());
            }
        }
        assertEquals(0, pass().exit());
    }

    /** Neither the state, nor a log, nor the temp folder has room. */
    @TestFactory Stream<DynamicTest> nothingBetweenAStopAndItsStartNeedsTheDisk() {
        return Stream.of("size=1m", "size=1m,nr_inodes=20").map(limit ->
            dynamicTest(limit, () -> onDisk(limit, disk -> {
            home.script("daemon", "echo $$ >>pids; touch plex.up; sleep 300; :");
            String rules = Files.readString(folder.resolve("rules.groovy"))
                .replaceFirst("restart .*", "restart { stop './daemon'; sh 'true'; start './daemon' }");
            home.rules(rules);
            System.setProperty("java.io.tmpdir", disk.toString());
            plex.stop();
            clock.add(Duration.ofDays(1));
            passOn("disk");
            home.rules(rules.replace("start './daemon'", "start './daemon', log: 'disk/log'"));
            command("sh", "-c", "cd " + disk + "; dd if=/dev/zero of=full bs=4k; touch $(seq 30)");
            plex.stop();
            clock.add(Duration.ofHours(1));
            Run run = passOn("disk");
            List<ProcessHandle> daemons = home.lines("pids").stream().map(Long::parseLong)
                .flatMap(pid -> ProcessHandle.of(pid).stream())
                .flatMap(daemon -> Stream.concat(daemon.descendants(), Stream.of(daemon))).toList();
            daemons.forEach(ProcessHandle::destroy);
            Wait.until("the daemons to end", () -> daemons.stream().noneMatch(ProcessHandle::isAlive));
            assertTrue(run.out().startsWith("plex  healed "), run.toString());
            assertTrue(run.out().contains("stopped "), run.toString());
            assertEquals(limit.contains("inodes"), run.out().contains(sentence("no log")), run.toString());
        })));
    }

    @Test void onAFullDiskTheServiceIsHealedAndNothingIsLost() throws Exception {
        onDisk(disk -> {
            plex.start();
            assertEquals(0, passOn("disk").exit());
            plex.stop();
            assertEquals(0, passOn("disk").exit());
            command("dd", "if=/dev/zero", "of=" + disk.resolve("full"), "bs=4k");
            for (int i = 0; i < 2; i++) {
                plex.stop();
                Run run = passOn("disk");
                assertEquals(4, run.exit(), run.err());
                assertTrue(run.out().startsWith("plex  healed "), run.out());
                assertTrue(run.err().contains(sentence("full disk")), run.err());
            }
            Files.delete(disk.resolve("full"));
            Run status = home.watchdog("status", "--state", "disk");
            assertTrue(status.out().contains("restarts left: 1 of 2 per 1 h"), status.out());
            assertEquals(0, passOn("disk").exit(), "room again");
        });
    }

    /** A temporary file has another name each time, which is no new warning. */
    @Test void whatCannotBeWrittenSeveralTimesIsSaidOnce() throws Exception {
        onDisk("size=1m,nr_inodes=20", disk -> {
            passOn("disk");
            command("sh", "-c", "cd " + disk + "; touch $(seq 30)");
            plex.stop();
            Run run = passOn("disk");
            assertEquals(1, run.err().lines().count(), run.toString());
            assertTrue(run.err().contains("/.memory.json.tmp: No space left on device), so "), run.err());
        });
    }

    private interface OnDisk { void run(Path disk) throws Exception; }

    /** On a small disk of its own, named `disk`, and with another temp folder. */
    private void onDisk(OnDisk test) throws Exception { onDisk("size=1m", test); }

    private void onDisk(String limit, OnDisk test) throws Exception {
        Path disk = Files.createDirectories(folder.resolve("disk"));
        String options = limit + ",mode=700";
        assumeTrue(command("mount", "-t", "tmpfs", "-o", options, "tmpfs", disk.toString()) == 0, "not root");
        Path otherTemp = Files.createDirectories(folder.resolve("temp"));
        String temp = System.setProperty("java.io.tmpdir", otherTemp.toString());
        try {
            test.run(disk);
        } finally {
            System.setProperty("java.io.tmpdir", temp);
            command("umount", disk.toString());
        }
    }

    private Run passOn(String disk) {
        Run run = home.watchdog("--state", disk);
        clock.add(Duration.ofMinutes(5));
        return run;
    }

    private static Path onlyFolder(Path parent) throws IOException {
        try (Stream<Path> files = Files.list(parent)) {
            return files.filter(file -> file.toString().contains("/rules-")).findFirst().orElseThrow();
        }
    }

    // ---- status -----------------------------------------------------------------------------------------

    @Test void statusTellsWhatIsRemembered() throws IOException {
        String rules = folder.resolve("rules.groovy").toString();
        assertEquals(sentence("status, new").replace("RULES", rules), home.watchdog("status").out());
        pass();
        assertEquals(sentence("status, healed").replace("RULES", rules), home.watchdog("status").out());
        clock.add(Duration.ofDays(2));
        Files.createFile(folder.resolve("stubborn"));
        plex.stop();
        pass();
        assertEquals(sentence("status, down").replace("RULES", rules), home.watchdog("status").out());
    }

    @Test void statusTellsTheSameAsJson() throws IOException {
        pass();
        Map<String, Object> unknown = new java.util.HashMap<>();
        for (String span : List.of("24h", "7d", "30d", "90d")) unknown.put(span, null);
        Map<String, ?> restart =
            Map.of("at", "2026-03-01T08:00:00Z", "remedy", 0, "what", "run 'tests/heal'",
                "result", "helped");
        Map<String, ?> watch = Map.of("name", "plex", "state", "healthy", "since", "2026-03-01T08:00:00Z",
            "lastRestart", restart, "restartsLeft", 1, "limit", 2, "per", "PT1H",
            "uptime", unknown);
        assertEquals(Map.of("waiting", 0, "watches", List.of(watch), "lastPass", "2026-03-01T08:00:00Z",
            "rules", folder.resolve("rules.groovy").toString()),
            new JsonSlurper().parseText(home.watchdog("status", "--json").out()));
    }

    @Test void statusTellsWhichMessagesWaitAndSinceWhen() throws IOException {
        String rules = Files.readString(folder.resolve("rules.groovy"));
        home.rules(rules + "notify command('/bin/false')\n");
        pass();
        String status = home.watchdog("status").out();
        assertTrue(status.endsWith(sentence("status, waiting")), status);
    }

    @Test void statusSaysThatARestartWasCutOff() throws IOException {
        pass();
        Files.copy(folder.resolve("aside.json"), memoryFile(), StandardCopyOption.REPLACE_EXISTING);
        assertTrue(home.watchdog("status").out().contains(sentence("status, cut off")));
    }

    @Test void statusOfADamagedFileLeavesItToThePass() throws IOException {
        pass();
        Files.writeString(memoryFile(), "{");
        assertEquals(sentence("unreadable, kept", sentence("damage")), home.watchdog("status").err());
        assertEquals("{", memory());
    }

    /** A pass each five minutes; - is a time without a pass. */
    @TestFactory Stream<DynamicTest> uptimeCountsTimeAndNotPasses() {
        return Map.of("hhhhh", "100 %", "huuuu", "0 %", "hhhuhhh", "66.66 %", "hhrhh", "75 %",
            "hh-------uu", "50 %", "hh-------hh", "100 %", "hhiihh", "100 %", "h", "unknown", "ii", "unknown",
            "uhhhu", "50 %").entrySet().stream().map(row -> dynamicTest(row.getKey(), () -> {
                plex.start();
                pass();
                StringBuilder lines = new StringBuilder();
                long start = clock.instant().getEpochSecond() - 3600;
                for (int i = 0; i < row.getKey().length(); i++)
                    if (row.getKey().charAt(i) != '-') lines.append("{\"\":").append(start + 300L * i)
                        .append(",\"plex\":\"").append(row.getKey().charAt(i)).append("5\"}\n");
                Files.writeString(historyFile(), lines);
                String status = home.watchdog("status").out();
                assertTrue(status.contains("uptime: " + row.getValue() + " in "), status);
            }));
    }

    /** Three passes within seconds, after passes each minute, or each five minutes as the schedule says. */
    @ParameterizedTest @CsvSource({"60,''", "300,300"})
    void passesByHandDoNotChangeTheUsualInterval(long seconds, String schedule) throws IOException {
        plex.start();
        pass();
        Files.writeString(home.state().resolve("schedule"), schedule);
        StringBuilder lines = new StringBuilder();
        long start = clock.instant().getEpochSecond() - 3600;
        for (long at : List.of(0L, seconds, 2 * seconds, 2 * seconds + 1, 2 * seconds + 2, 2 * seconds + 3))
            lines.append("{\"\":").append(start + at).append(",\"plex\":\"")
                .append(at == 2 * seconds ? 'u' : 'h').append("5\"}\n");
        Files.writeString(historyFile(), lines);
        String status = home.watchdog("status").out();
        assertTrue(status.matches("(?s).*uptime: (50|49|48)\\..*|(?s).*uptime: 50 %.*"), status);
    }

    @Test void eachWatchHasAnUptimeOfItsOwn() throws IOException {
        home.rules("""
            for (name in ['a', 't', '"ü"']) watch(name) { tcp '127.0.0.1:1'; attempts 1 }
            """);
        pass();
        assertTrue(Files.readString(historyFile()).matches("\\{\"\":\\d+,\"a\":\"u.*\",\"t\":\"u.*}\n"));
        long now = clock.instant().getEpochSecond();
        Files.writeString(historyFile(), """
            {"":%d,"a":"h3","t":"u3","\\"\\u00fc\\"":"u2"}
            {"":%d,"a":"h3","t":"u3","\\"\\u00fc\\"":"u2"}
            """.formatted(now - 600, now - 300));
        assertEquals(List.of("100 %", "0 %", "0 %"), home.watchdog("status").out().lines()
            .filter(line -> line.contains("uptime"))
            .map(line -> line.replaceAll(".*uptime: | in \\d+ .*", "")).toList());
    }

    @Test void theHistoryIsBounded() throws IOException {
        plex.start();
        pass();
        String line = "{\"\":1772352000,\"plex\":\"h3\"}\n";
        for (int i = 0; i < 3; i++) {
            Files.writeString(historyFile(), line.repeat((1 << 20) / line.length() + 1));
            pass();
        }
        try (Stream<Path> files = Files.list(home.state())) {
            long bytes = files.filter(file -> file.getFileName().toString().startsWith("history"))
                .mapToLong(file -> file.toFile().length()).sum();
            assertTrue(bytes < 5 << 19, bytes + " bytes of history");
        }
    }

    @Test void aTornLineOfHistoryIsLeftOut() throws IOException {
        plex.start();
        pass();
        String torn = "{'':17723\n\0\0{'':1772352000,'plex':\n\n7\n{'':1772351400,'plex':'u3'}\n"
            + "{'':1772351700,'plex':'u3'}\n";
        Files.writeString(historyFile(), torn.replace('\'', '"'));
        String status = home.watchdog("status").out();
        assertTrue(status.contains("uptime: 0 % in 15 min"), status);
    }

    @Test void aLineThatIsCutDoesNotSpoilTheNext() throws IOException {
        pass();
        String cut = Files.readString(historyFile()).replaceFirst("\n$", "").replaceFirst("...$", "");
        Files.writeString(historyFile(), cut);
        pass();
        pass();
        assertTrue(Files.readString(historyFile()).matches("\\Q" + cut + "\\E(\n\\{\"\":\\d+,.*}){2}\n"),
            Files.readString(historyFile()));
    }

    // ---- pause and resume -------------------------------------------------------------------------------

    @Test void aPausedWatchIsLeftAloneUntilItsTimeIsOver() throws IOException {
        Run pause = home.watchdog("pause", "plex", "--for", "2h");
        assertEquals(sentence("paused", "2026-03-01 10:00"), pause.out());
        assertEquals(new Run(0, "plex  paused       until 2026-03-01 10:00\n", ""), pass());
        assertTrue(home.watchdog("status").out().startsWith("plex: paused until 2026-03-01 10:00\n"));
        clock.add(Duration.ofMinutes(110));
        assertTrue(pass().out().contains("paused"));
        assertEquals(0, plex.restarts());
        pass();
        assertEquals(1, plex.restarts());
    }

    @Test void aPauseWithoutATimeLastsUntilResume() throws IOException {
        assertEquals(sentence("paused", "it is resumed"), home.watchdog("pause", "plex").out());
        clock.add(Duration.ofDays(400));
        assertEquals("plex  paused       until it is resumed\n", pass().out());
        assertEquals("plex is watched again\n", home.watchdog("resume", "plex").out());
        assertEquals("plex was not paused\n", home.watchdog("resume", "plex").out());
        pass();
        assertEquals(1, plex.restarts());
    }

    @Test void aLongNameInAnyScriptCanBePaused() {
        String name = "プレックス".repeat(12);
        home.rules("watch('" + name + "') { url '" + plex.url() + "'; attempts 1 }");
        assertEquals(0, home.watchdog("pause", name, "--for", "1h").exit());
        assertEquals(name + "  paused       until 2026-03-01 09:00\n", home.watchdog().out());
        home.watchdog("resume", name);
        assertEquals(1, home.watchdog().exit());
    }

    @TestFactory Stream<DynamicTest> aPauseThatCannotBeMeantIsRefused() {
        return Stream.of("pause plx", "pause", "pause plex --for soon", "pause plex --for -2h", "resume plx")
            .map(words -> dynamicTest(words, () -> assertEquals(2, home.watchdog(words.split(" ")).exit())));
    }

    // ---- watches that come and go -----------------------------------------------------------------------

    @Test void aWatchThatIsRemovedWhileItIsDownIsReportedAsRemoved() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        String hook = "notify command('tests/hear')\n";
        Path hear = Files.writeString(folder.resolve("tests/hear"), "#!/bin/sh\necho \"$1\" >> heard\n");
        Files.setPosixFilePermissions(hear, PosixFilePermissions.fromString("rwxr-xr-x"));
        home.rules(hook + Files.readString(folder.resolve("rules.groovy")));
        pass();
        home.rules(hook + "watch('other') { command 'true' }\n");
        pass();
        pass();
        List<String> heard = Files.readAllLines(folder.resolve("heard"), StandardCharsets.UTF_8);
        assertEquals(3, heard.size(), heard.toString());
        assertEquals(sentence("removed"), heard.get(2));
        assertFalse(memory().contains("plex"), memory());
    }

    @Test void anUnknownFieldIsIgnored() throws IOException {
        pass();
        String changed = memory().replace("\"failures\"", "\"mood\": \"good\",\n\"failures\"");
        Files.writeString(memoryFile(), changed);
        assertEquals(0, pass().exit());
    }

    // ---- helpers ----------------------------------------------------------------------------------------

    /** One pass, five minutes later. */
    private Run pass() {
        Run run = home.watchdog();
        clock.add(Duration.ofMinutes(5));
        return run;
    }

    private Path memoryFile() { return home.state().resolve("memory.json"); }
    private Path historyFile() { return home.state().resolve("history.jsonl"); }
    private String memory() throws IOException { return Files.readString(memoryFile()); }

    private List<Path> broken() throws IOException {
        try (Stream<Path> files = Files.list(home.state())) {
            return files.filter(file -> file.getFileName().toString().startsWith("memory.json.broken"))
                .sorted(Comparator.comparing(file -> -file.toFile().lastModified())).toList();
        }
    }

    private static String mode(Path file) throws IOException {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
    }

    /** To another user. */
    private static void give(Path file) throws Exception {
        assumeTrue(command("chown", "nobody", file.toString()) == 0, "only root can give a file away");
    }

    private static int command(String... words) throws IOException, InterruptedException {
        return new ProcessBuilder(words).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
    }
}
