import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** What a pass leaves for the next: readable, private, whole; and what happens when it is not. */
class MemoryTest {
    private static final TimeZone ZONE = TimeZone.getDefault();

    @TempDir Path folder;
    private Run.Desk desk;
    private Run.HandClock clock;
    private Service plex;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    /** A service, and a remedy that heals it while no file says that it is stubborn. */
    @BeforeEach void aWatchedPlex() throws IOException {
        clock = new Run.HandClock(Instant.parse("2026-03-01T08:00:00Z"));
        desk = new Run.Desk(folder);
        desk.clock = clock;
        plex = new Service(folder, "plex");
        Path script = Files.createDirectory(folder.resolve("tests")).resolve("heal");
        Files.writeString(script, """
            #!/bin/sh
            echo now >> plex.restarts
            cp "$HOME"/.local/state/watchdog/rules-*/memory.json aside.json 2>/dev/null
            test -e stubborn || touch plex.up
            """);
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
        desk.rules("""
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

    // ---- what it looks like ---------------------------------------------------------------------------------------

    @Test void theMemoryIsATextThatPeopleCanRead() throws IOException {
        pass();
        assertEquals("""
            {"format": 1, "brokenRules": "", "watches": {
            "plex": {"state":"healthy","since":"2026-03-01T08:00:00Z","failures":0,"restarts":[\
            {"at":"2026-03-01T08:00:00Z","what":"run 'tests/heal'","result":"helped"}]}
            }, "outbox": [
            ]}
            """, memory());
    }

    @Test void theIntentToRestartIsOnDiskBeforeTheFirstStep() throws IOException {
        pass();
        String then = Files.readString(folder.resolve("aside.json"));
        assertTrue(then.contains("\"what\":\"run 'tests/heal'\""), then);
        assertFalse(then.contains("\"result\""), then);
        assertTrue(then.contains("\"restarts\":1"), then);
    }

    @Test void onlyItsOwnerCanReadIt() throws IOException {
        pass();
        assertEquals("rwx------", mode(desk.state()));
        assertEquals("rw-------", mode(desk.state().resolve("memory.json")));
    }

    @Test void whatAKilledPassLeftHalfWrittenIsSweptAway() throws IOException {
        pass();
        Files.writeString(desk.state().resolve(".memory.json123.tmp"), "{");
        pass();
        try (Stream<Path> files = Files.walk(folder)) {
            assertEquals(List.of(), files.filter(file -> file.toString().endsWith(".tmp")).toList());
        }
    }

    @Test void aPassThatLearnsNothingWritesNoMemory() throws IOException {
        plex.start();
        pass();
        Object before = Files.getAttribute(desk.state().resolve("memory.json"), "unix:ino");
        pass();
        assertEquals(before, Files.getAttribute(desk.state().resolve("memory.json"), "unix:ino"));
    }

    @Test void checksAndDryRunsRememberNothing() throws IOException {
        desk.watchdog("check");
        desk.watchdog("--dry-run");
        assertFalse(Files.exists(desk.state().resolve("memory.json")));
        assertFalse(Files.exists(desk.state().resolve("history.jsonl")));
        assertEquals(0, plex.restarts());
    }

    // ---- when it is broken ----------------------------------------------------------------------------------------

    @TestFactory Stream<DynamicTest> aMemoryThatCannotBeReadIsSetAsideAndSaidAndThePassGoesOn() throws IOException {
        pass();
        return Stream.of("", " ", "{", "null", "[]", "42", "\"text\"", "{}", "{\"format\":1}", "{\"format\":\"one\"}",
                "{\"format\":1,\"watches\":[],\"outbox\":[]}", "{\"format\":1,\"watches\":{\"plex\":{}},\"outbox\":[]}",
                "{\"format\":1,\"watches\":{\"plex\":null},\"outbox\":[]}", "{\"format\":1,\"watches\":{},\"outbox\":[{}]}",
                "{\"format\":1,\"watches\":{\"plex\":{\"state\":\"healthy\",\"since\":\"yesterday\",\"failures\":0,\"restarts\":[]}},\"outbox\":[]}",
                "\0\0\0\0", "[".repeat(100_000), "{\"format\":99}")
            .map(damage -> dynamicTest("'" + damage.replace('\0', '0').substring(0, Math.min(60, damage.length())) + "'", () -> {
                Files.writeString(desk.state().resolve("memory.json"), damage);
                Run run = pass();
                assertEquals(4, run.exit(), run.err());
                assertTrue(run.out().startsWith("plex  healthy "), run.out());
                String why = damage.contains("99") ? "it was written by a newer watchdog, in format 99" : "it is damaged";
                Path aside = broken().get(0);
                assertTrue(run.err().startsWith("watchdog: the memory could not be read (" + why + "); it is kept as "
                    + desk.state() + "/memory.broken-"), run.err());
                assertTrue(run.err().endsWith(".json and a new one begins, so restart budgets begin anew\n"), run.err());
                assertEquals(damage, Files.readString(aside));
                assertEquals(new Run(0, "", ""), desk.watchdog("--quiet"));
            }));
    }

    @Test void aMemoryThatIsCutAnywhereIsEitherSetAsideOrWhole() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        pass();
        byte[] whole = Files.readAllBytes(desk.state().resolve("memory.json"));
        for (int length = 0; length < whole.length; length += 23) {
            Files.write(desk.state().resolve("memory.json"), Arrays.copyOf(whole, length));
            plex.start();
            assertEquals(4, pass().exit(), "cut to " + length + " bytes");
            assertEquals(0, pass().exit());
        }
    }

    @Test void aMemoryWithOneWrongByteNeverEndsAPassInABug() throws IOException {
        plex.start();
        pass();
        byte[] whole = Files.readAllBytes(desk.state().resolve("memory.json"));
        for (int at = 0; at < whole.length; at += 5) {
            byte[] wrong = whole.clone();
            wrong[at] ^= 1 << at % 8;
            Files.write(desk.state().resolve("memory.json"), wrong);
            Run run = pass();
            assertTrue(run.exit() == 0 || run.exit() == 4 && run.err().contains("the memory could not be read"), at + ": " + run);
            assertTrue(run.out().startsWith("plex  healthy "), at + ": " + run);
        }
    }

    @Test void bytesThatAreNoTextAreDamage() throws IOException {
        plex.start();
        pass();
        Files.write(desk.state().resolve("memory.json"), new byte[] {(byte) 0xff, (byte) 0xfe, 0, (byte) 0xe9});
        Run run = pass();
        assertEquals(4, run.exit());
        assertTrue(run.err().startsWith("watchdog: the memory could not be read (it is damaged); "), run.err());
    }

    @Test void ofBrokenMemoriesAtMostThreeAreKept() throws IOException {
        plex.start();
        pass();
        for (int i = 0; i < 8; i++) {
            Files.writeString(desk.state().resolve("memory.json"), "broken");
            clock.pass(Duration.ofSeconds(301));
            pass();
        }
        assertEquals(3, broken().size());
    }

    @Test void aBrokenMemoryIsNoReasonToRestartMoreThanTheBudget() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        pass();
        Files.writeString(desk.state().resolve("memory.json"), "{");
        for (int i = 0; i < 6; i++) pass();
        assertEquals(1 + 2, plex.restarts());
    }

    @TestFactory Stream<DynamicTest> somethingElseInThePlaceOfTheMemoryDoesNotStopThePass() throws IOException {
        pass();
        Path memory = desk.state().resolve("memory.json");
        return Stream.of(
            strange("a folder", memory, () -> Files.createDirectory(memory)),
            strange("a folder with something in it", memory, () -> Files.createFile(Files.createDirectory(memory).resolve("x"))),
            strange("a pipe that nobody writes to", memory, () -> command("mkfifo", memory.toString())),
            strange("a link to nowhere", memory, () -> Files.createSymbolicLink(memory, folder.resolve("nowhere"))),
            strange("a device", memory, () -> Files.createSymbolicLink(memory, Path.of("/dev/zero"))));
    }

    private interface Deed { void done() throws Exception; }

    private DynamicTest strange(String what, Path memory, Deed putting) {
        return dynamicTest(what, () -> {
            command("rm", "-rf", memory.toString());
            putting.done();
            Run run = pass();
            assertEquals(4, run.exit(), run.err());
            assertTrue(run.err().startsWith("watchdog: the memory could not be read ("), run.err());
            assertEquals(new Run(0, "", ""), desk.watchdog("--quiet"));
            assertTrue(Files.isRegularFile(memory));
        });
    }

    @Test void aLinkInThePlaceOfTheMemoryIsReplacedAndItsTargetIsNotWritten() throws IOException {
        plex.start();
        pass();
        Path memory = desk.state().resolve("memory.json"), victim = folder.resolve("victim.json");
        Files.move(memory, victim);
        Files.createSymbolicLink(memory, victim);
        String before = Files.readString(victim);
        plex.stop();
        pass();
        assertEquals(before, Files.readString(victim));
        assertFalse(Files.isSymbolicLink(memory));
    }

    // ---- when it cannot be written --------------------------------------------------------------------------------

    @Test void withoutAStateFolderTheServiceIsHealedAndThatTheBudgetMayNotHoldIsSaid() throws IOException {
        Path temp = Files.createDirectory(folder.resolve("temp"));
        desk.file("no-folder", "");
        withTemp(temp, () -> {
            Run run = desk.watchdog("--state", "no-folder");
            assertEquals(4, run.exit());
            assertTrue(run.out().startsWith("plex  healed "), run.out());
            assertTrue(run.err().startsWith("watchdog: cannot use " + folder + "/no-folder/rules-"), run.err());
            assertTrue(run.err().endsWith("; this pass remembers under the temp folder, so the restart budget may not hold\n"), run.err());
            Files.createFile(folder.resolve("stubborn"));
            for (int i = 0; i < 4; i++) desk.watchdog("--state", "no-folder");
            plex.stop();
            for (int i = 0; i < 4; i++) desk.watchdog("--state", "no-folder");
        });
        assertEquals(2, plex.restarts(), "the memory under the temp folder holds the budget");
        assertEquals("rwx------", mode(temp.resolve("watchdog-" + System.getProperty("user.name"))));
    }

    @Test void onAFullDiskTheServiceIsHealedAndTheBudgetHolds() throws Exception {
        Path disk = Files.createDirectory(folder.resolve("disk")), temp = Files.createDirectory(folder.resolve("temp"));
        assumeTrue(command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk.toString()) == 0, "a small disk is for root to make");
        try {
            withTemp(temp, () -> {
                plex.start();
                assertEquals(0, desk.watchdog("--state", "disk").exit());
                command("dd", "if=/dev/zero", "of=" + disk.resolve("full"), "bs=4k");
                plex.stop();
                Run run = desk.watchdog("--state", "disk");
                assertEquals(4, run.exit(), run.err());
                assertTrue(run.out().startsWith("plex  healed "), run.out());
                assertTrue(run.err().contains("watchdog: the memory cannot be written (No space left on device), so the restart budget may not hold; "
                    + "meanwhile it is in " + temp), run.err());
                Files.createFile(folder.resolve("stubborn"));
                plex.stop();
                for (int i = 0; i < 5; i++) assertEquals(4, desk.watchdog("--state", "disk").exit());
                assertEquals(2, plex.restarts());
                Files.delete(disk.resolve("full"));
                plex.start();
                assertEquals(0, desk.watchdog("--state", "disk").exit(), "room again: all is as it was");
                assertTrue(desk.watchdog("status", "--state", "disk").out().contains("restarts left: 0 of 2 per 1 h"));
            });
        } finally {
            command("umount", disk.toString());
        }
    }

    @Test void aReadOnlyFolderOfOursIsSaidAndTheServiceIsHealed() throws Exception {
        assumeTrue(!System.getProperty("user.name").equals("root"), "root may write everywhere");
        pass();
        plex.stop();
        Files.setPosixFilePermissions(desk.state(), PosixFilePermissions.fromString("r-x------"));
        withTemp(Files.createDirectory(folder.resolve("temp")), () -> {
            Run run = pass();
            assertEquals(4, run.exit());
            assertTrue(run.out().startsWith("plex  healed "), run.out());
        });
        Files.setPosixFilePermissions(desk.state(), PosixFilePermissions.fromString("rwx------"));
    }

    // ---- status ---------------------------------------------------------------------------------------------------

    @Test void statusTellsWhatIsRemembered() throws IOException {
        assertEquals("""
            plex: new, not looked at yet
                restarts left: 2 of 2 per 1 h
                uptime: unknown in 24h, unknown in 7d, unknown in 30d
            """, desk.watchdog("status").out());
        pass();
        assertEquals("""
            plex: healthy since 2026-03-01 08:00
                last restart 2026-03-01 08:00: run 'tests/heal' (helped)
                restarts left: 1 of 2 per 1 h
                uptime: 100 % in 24h, 100 % in 7d, 100 % in 30d
            """, desk.watchdog("status").out());
        clock.pass(Duration.ofDays(2));
        Files.createFile(folder.resolve("stubborn"));
        plex.stop();
        pass();
        assertEquals("""
            plex: unhealthy since 2026-03-03 08:05
                down: expected status == 200, but status was 530
                last restart 2026-03-03 08:05: run 'tests/heal' (did not help)
                restarts left: 1 of 2 per 1 h
                uptime: 0 % in 24h, 50 % in 7d, 50 % in 30d
            """, desk.watchdog("status").out());
    }

    @Test void statusTellsTheSameAsJson() throws IOException {
        pass();
        assertEquals(Map.of("waiting", 0, "watches", List.of(Map.of("name", "plex", "state", "healthy", "since", "2026-03-01T08:00:00Z",
            "lastRestart", Map.of("at", "2026-03-01T08:00:00Z", "what", "run 'tests/heal'", "result", "helped"), "budgetLeft", 1, "budget", 2, "per", "PT1H",
            "uptime", Map.of("24h", new BigDecimal("100.0"), "7d", new BigDecimal("100.0"), "30d", new BigDecimal("100.0"))))),
            new JsonSlurper().parseText(desk.watchdog("status", "--json").out()));
    }

    @Test void statusTellsWhichMessagesWaitAndSinceWhen() throws IOException {
        desk.file("rules.groovy", Files.readString(folder.resolve("rules.groovy")) + "notify command('/bin/false')\n");
        pass();
        assertTrue(desk.watchdog("status").out().endsWith("""
            waiting for command since 2026-03-01 08:00: plex is down
            waiting for command since 2026-03-01 08:00: plex is healthy again
            """), desk.watchdog("status").out());
    }

    @Test void statusSaysThatARestartWasCutOff() throws IOException {
        pass();
        Files.copy(folder.resolve("aside.json"), desk.state().resolve("memory.json"), java.nio.file.StandardCopyOption.REPLACE_EXISTING);
        assertTrue(desk.watchdog("status").out().contains("last restart 2026-03-01 08:00: run 'tests/heal' (cut off)\n"));
    }

    @Test void statusOfABrokenMemoryLeavesItToThePass() throws IOException {
        pass();
        Files.writeString(desk.state().resolve("memory.json"), "{");
        assertEquals("watchdog: the memory could not be read (it is damaged); the next pass begins a new one, so restart budgets begin anew\n",
            desk.watchdog("status").err());
        assertEquals("{", Files.readString(desk.state().resolve("memory.json")));
    }

    @Test void theHistoryIsBounded() throws IOException {
        plex.start();
        pass();
        String line = "{\"t\":1772352000,\"plex\":\"h3\"}\n";
        for (int i = 0; i < 3; i++) {
            Files.writeString(desk.state().resolve("history.jsonl"), line.repeat((2 << 20) / line.length() + 1));
            pass();
        }
        try (Stream<Path> files = Files.list(desk.state())) {
            long bytes = files.filter(file -> file.getFileName().toString().startsWith("history")).mapToLong(file -> file.toFile().length()).sum();
            assertTrue(bytes < 5 << 20, bytes + " bytes of history");
        }
        assertTrue(desk.watchdog("status").out().contains("uptime: 100 % in 24h"));
    }

    @Test void aTornLineOfHistoryIsPassedOver() throws IOException {
        plex.start();
        pass();
        Files.writeString(desk.state().resolve("history.jsonl"), "{\"t\":17723\n\0\0{\"t\":1772352000,\"plex\":\n{\"t\":1772352000,\"plex\":\"u3\"}\n");
        assertTrue(desk.watchdog("status").out().contains("uptime: 0 % in 24h"), desk.watchdog("status").out());
    }

    // ---- pause and resume -----------------------------------------------------------------------------------------

    @Test void aPausedWatchIsLeftAloneUntilItsTimeIsOver() throws IOException {
        assertEquals("plex is paused until 2026-03-01 10:00; `watchdog resume plex` ends it\n", desk.watchdog("pause", "plex", "--for", "2h").out());
        assertEquals(new Run(0, "plex  paused       paused until 2026-03-01 10:00\n", ""), pass());
        assertTrue(desk.watchdog("status").out().startsWith("plex: paused until 2026-03-01 10:00\n"));
        clock.pass(Duration.ofMinutes(110));
        assertTrue(pass().out().contains("paused"));
        assertEquals(0, plex.restarts());
        pass();
        assertEquals(1, plex.restarts());
    }

    @Test void aPauseWithoutATimeLastsUntilResume() throws IOException {
        assertEquals("plex is paused until it is resumed; `watchdog resume plex` ends it\n", desk.watchdog("pause", "plex").out());
        clock.pass(Duration.ofDays(400));
        assertEquals("plex  paused       paused until it is resumed\n", pass().out());
        assertEquals("plex is watched again\n", desk.watchdog("resume", "plex").out());
        assertEquals("plex was not paused\n", desk.watchdog("resume", "plex").out());
        pass();
        assertEquals(1, plex.restarts());
    }

    @Test void aLongNameInAnyScriptCanBePaused() {
        String name = "プレックス".repeat(12);
        desk.rules("watch('" + name + "') { url '" + plex.url() + "'; attempts 1 }");
        assertEquals(0, desk.watchdog("pause", name, "--for", "1h").exit());
        assertEquals(name + "  paused       paused until 2026-03-01 09:00\n", desk.watchdog().out());
        desk.watchdog("resume", name);
        assertEquals(1, desk.watchdog().exit());
    }

    @TestFactory Stream<DynamicTest> aPauseThatCannotBeMeantIsRefused() {
        return Stream.of(List.of("pause", "plx"), List.of("pause"), List.of("pause", "plex", "--for", "soon"), List.of("pause", "plex", "--for", "-2h"),
            List.of("resume", "plx")).map(words -> dynamicTest(String.join(" ", words), () ->
                assertEquals(2, desk.watchdog(words.toArray(String[]::new)).exit())));
    }

    // ---- watches that come and go ---------------------------------------------------------------------------------

    @Test void aWatchThatIsRemovedWhileItIsDownGetsAnEndToItsStory() throws IOException {
        Files.createFile(folder.resolve("stubborn"));
        String hook = "notify command('tests/hear')\n";
        Path hear = Files.writeString(folder.resolve("tests/hear"), "#!/bin/sh\necho \"$1\" >> heard\n");
        Files.setPosixFilePermissions(hear, PosixFilePermissions.fromString("rwxr-xr-x"));
        desk.rules(hook + Files.readString(folder.resolve("rules.groovy")));
        pass();
        desk.rules(hook + "watch('other') { tcp '127.0.0.1:" + plex.url().replaceAll("\\D+127.0.0.1:|/$", "") + "' }\n");
        pass();
        pass();
        List<String> heard = Files.readAllLines(folder.resolve("heard"), StandardCharsets.UTF_8);
        assertEquals(3, heard.size(), heard.toString());
        assertEquals("plex is no longer watched: It was removed from the rules while it was down: expected status == 200, but status was 530.", heard.get(2));
        assertFalse(memory().contains("plex"), memory());
    }

    @Test void anUnknownWordInTheMemoryIsLeftAlone() throws IOException {
        pass();
        Files.writeString(desk.state().resolve("memory.json"), memory().replace("\"failures\"", "\"mood\": \"good\",\n\"failures\""));
        assertEquals(0, pass().exit());
    }

    // ---- helpers --------------------------------------------------------------------------------------------------

    /** One pass, five minutes later. */
    private Run pass() {
        Run run = desk.watchdog();
        clock.pass(Duration.ofMinutes(5));
        return run;
    }

    private String memory() throws IOException { return Files.readString(desk.state().resolve("memory.json")); }

    private List<Path> broken() throws IOException {
        try (Stream<Path> files = Files.list(desk.state())) {
            return files.filter(file -> file.getFileName().toString().startsWith("memory.broken"))
                .sorted((one, other) -> Long.compare(other.toFile().lastModified(), one.toFile().lastModified())).toList();
        }
    }

    private static String mode(Path file) throws IOException { return PosixFilePermissions.toString(Files.getPosixFilePermissions(file)); }

    private static int command(String... words) throws IOException, InterruptedException {
        return new ProcessBuilder(words).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
    }

    /** The temp folder of this JVM is another one for a while. */
    private static void withTemp(Path temp, Deed deed) throws IOException {
        String before = System.setProperty("java.io.tmpdir", temp.toString());
        try {
            deed.done();
        } catch (IOException | RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new AssertionError(e);
        } finally {
            System.setProperty("java.io.tmpdir", before);
        }
    }
}
