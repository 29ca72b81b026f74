import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** kill -9 of a pass, a real process, at each step; the next pass forgets nothing and doubles nothing. */
@Order(4)
class CrashTest {
    private static final int KILLED = 128 + 9;
    /** The calls of one pass are fewer; a pass that ends before its kill has no more of them. */
    private static final int MAX_FSYNCS = 8, MAX_RENAMES = 4;

    /** A step that kills its pass once, where a file die.N exists; $PPID is the pass. */
    static final String DIE =
        "sh 'if test -e die.%d; then rm die.%<d; kill -9 $PPID; sleep 5; fi; true'";

    /** With -D strace is no parent of the pass, so that no test waits for the daemon, which is traced too. */
    private static final List<String> STRACE =
        List.of("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null");

    @TempDir
    private Path temp;
    private TestFolder home;
    private Service plex;

    @BeforeEach
    void open() throws IOException {
        home = new TestFolder(temp.toRealPath());
        plex = new Service(home.folder, "plex");
        home.script("daemon", "touch plex.up; exec sleep 300");
        home.script("hook", "echo $WATCHDOG_EVENT >>events");
        home.rules("""
            notify command('./hook')
            watch('plex') {
                url '%s'
                attempts 1
                within 5.seconds
                limit 2, per: 1.hour
                restart {
                    %s
                    sh 'echo now >> plex.restarts'
                    stop './daemon'
                    %s
                    start './daemon'
                    %s
                }
            }
            """.formatted(plex.url(), DIE.formatted(1), DIE.formatted(2), DIE.formatted(3)));
    }

    @AfterEach
    void close() {
        daemons(home.folder).forEach(ProcessHandle::destroyForcibly);
        plex.close();
    }

    @TestFactory
    Stream<DynamicTest> aPassThatIsKilledInItsRemedyIsContinuedByTheNext() {
        return IntStream.rangeClosed(1, 3).mapToObj(place -> dynamicTest("at place " + place, () -> {
            reset();
            home.file("die." + place, "");
            pass(List.of()).exits(KILLED);
            assertNextPassHeals();
        }));
    }

    @Test
    void restartsThatWereCutOffCountTowardsTheLimit() throws Exception {
        reset();
        for (int i = 0; i < 2; i++) {
            home.file("die.2", "");
            pass(List.of()).exits(KILLED);
        }
        for (int i = 0; i < 2; i++) home.watchdog("--state", "state").exits(1);
        assertEquals(2, plex.restarts());
        assertEquals(List.of("down", "gave_up"), home.lines("events"));
    }

    /** Each call that makes something last, or shows it, is a place to die. */
    @TestFactory
    Stream<DynamicTest> aPassThatIsKilledAtAnyWriteIsContinuedByTheNext() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/strace")), "strace is not installed");
        List<String> tracesTrue = Stream.concat(STRACE.stream(), Stream.of("true")).toList();
        assumeTrue(Run.of(new ProcessBuilder(tracesTrue)).exit() == 0, "strace may not trace here");
        home.watchdog("check", "--state", "state"); // compiles the rules, which is not what is tested
        return Stream.concat(killedAt("fsync", MAX_FSYNCS), killedAt("rename", MAX_RENAMES));
    }

    private Stream<DynamicTest> killedAt(String call, int max) {
        return IntStream.rangeClosed(1, max).mapToObj(n -> dynamicTest(call + " " + n, () -> {
            reset();
            List<String> strace = new ArrayList<>(STRACE);
            strace.addAll(List.of("-e", "trace=" + call));
            strace.addAll(List.of("-e", "inject=" + call + ":signal=SIGKILL:when=" + n));
            Run pass = pass(strace);
            if (pass.exit() == 0) return; // it has fewer of these calls
            pass.exits(KILLED);
            assertNextPassHeals();
        }));
    }

    /** The lock is free, the memory is whole, the service is healthy; nothing is repeated more than once. */
    private void assertNextPassHeals() throws Exception {
        Instant twoDaysAgo = Instant.now().minus(Duration.ofDays(2));
        for (Path file : temporaryFiles()) Files.setLastModifiedTime(file, FileTime.from(twoDaysAgo));
        home.watchdog("--state", "state").exits(0);
        assertEquals("", home.watchdog("--quiet", "--state", "state").out());
        assertTrue(plex.restarts() <= 2, "the restart that was cut off counts");
        assertEquals(1, daemons(home.folder).size());
        List<String> events = home.lines("events");
        assertTrue(events.contains("healed") || events.contains("recovered"), events.toString());
        assertTrue(events.size() <= 4, events.toString());
        assertTrue(Collections.frequency(events, "down") <= 2, events.toString());
        assertEquals(List.of(), temporaryFiles(), "old ones are swept away");
    }

    private List<Path> temporaryFiles() throws IOException {
        try (Stream<Path> files = Files.walk(home.folder)) {
            return files.filter(file -> file.toString().endsWith(".tmp")).toList();
        }
    }

    /** As on the first day, but for the compiled rules. */
    private void reset() throws IOException {
        daemons(home.folder).forEach(ProcessHandle::destroyForcibly);
        Wait.until("the daemons to end", () -> daemons(home.folder).isEmpty());
        for (String name : List.of("events", "plex.restarts", "plex.up", "die.1", "die.2", "die.3"))
            Files.deleteIfExists(home.folder.resolve(name));
        Path state = home.folder.resolve("state");
        if (!Files.exists(state)) return;
        try (Stream<Path> files = Files.walk(state)) {
            for (Path file : files.toList())
                if (file.getFileName().toString().startsWith("memory")) Files.delete(file);
        }
    }

    /** The daemon is a script: its process is sh for a moment, and sleep afterwards. */
    static List<ProcessHandle> daemons(Path folder) {
        return ProcessHandle.allProcesses()
            .filter(process -> process.info().commandLine().orElse("").endsWith("sleep 300"))
            .filter(process -> workingDirectory(process).equals(folder)).toList();
    }

    private static Path workingDirectory(ProcessHandle process) {
        try {
            return Files.readSymbolicLink(Path.of("/proc/" + process.pid() + "/cwd"));
        } catch (IOException gone) {
            return Path.of("/");
        }
    }

    /** A pass in a new process; {@code before}: the words of a program that runs it. */
    private Run pass(List<String> before) throws Exception {
        List<String> words = new ArrayList<>(before);
        words.addAll(Run.process("--state", "state"));
        var builder = new ProcessBuilder(words).directory(home.folder.toFile());
        builder.environment().put("HOME", home.folder.toString());
        return Run.of(builder);
    }
}
