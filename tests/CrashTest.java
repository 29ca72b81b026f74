import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * kill -9 of a pass, a real process, at each step of a story. Then another pass: nothing is forgotten, nothing is
 * doubled, and one daemon runs.
 */
class CrashTest {
    /** A remedy that kills its pass where a file called die.N says so, once; $PPID is the pass. */
    private static final String DIE = "sh 'if test -e die.%d; then rm die.%d; kill -9 $PPID; sleep 5; fi; true'";

    @TempDir Path folder;
    private Service plex;
    private Run.Desk desk;

    @BeforeEach void open() throws IOException {
        folder = folder.toRealPath();
        desk = new Run.Desk(folder);
        plex = new Service(folder, "plex");
        script("daemon", "touch plex.up; exec sleep 300");
        script("hear", "printf '%s\\n' \"$1\" >> heard");
        Files.writeString(folder.resolve("rules.groovy"), """
            notify command('./hear')
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
            """.formatted(plex.url(), DIE.formatted(1, 1), DIE.formatted(2, 2), DIE.formatted(3, 3)));
    }

    /** The daemon is a script: its process is sh for a moment, and sleep afterwards. */
    @AfterEach void close() throws IOException {
        daemons().forEach(ProcessHandle::destroyForcibly);
        plex.close();
    }

    @TestFactory Stream<DynamicTest> aPassThatIsKilledInItsRemedyIsCarriedOnByTheNext() {
        return IntStream.rangeClosed(1, 3).mapToObj(place -> dynamicTest("at place " + place, () -> {
            reset();
            Files.createFile(folder.resolve("die." + place));
            assertEquals(137, process(List.of()), "killed");
            afterAll("killed at " + place);
        }));
    }

    @Test void restartsThatWereCutOffCountAgainstTheBudget() throws Exception {
        reset();
        for (int i = 0; i < 2; i++) {
            Files.createFile(folder.resolve("die.2"));
            assertEquals(137, process(List.of()));
        }
        for (int i = 0; i < 2; i++) assertEquals(1, desk.watchdog("--state", "state").exit(), "the budget is spent");
        assertEquals(2, plex.restarts());
        assertEquals(List.of("plex is down", "plex is still down; watchdog has stopped restarting it"), heard());
    }

    /** Each call that makes something last, or shows it, is one place to die; until there is no such call any more. */
    @TestFactory Stream<DynamicTest> aPassThatIsKilledAtAnyWriteIsCarriedOnByTheNext() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/strace")) && traces(), "strace is there and may trace");
        desk.watchdog("check", "--state", "state"); // compiles the rules, and is not of interest
        return Stream.of("fsync", "rename").flatMap(call -> IntStream.rangeClosed(1, call.equals("fsync") ? 8 : 4).mapToObj(n ->
            dynamicTest(call + " " + n, () -> {
                reset();
                // -D: strace is no parent of the pass, so that we do not wait for the daemon, which it traces as well.
                int exit = process(List.of("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=" + call,
                    "-e", "inject=" + call + ":signal=SIGKILL:when=" + n));
                if (exit == 0) return; // the story has fewer
                assertEquals(137, exit);
                afterAll(call + " " + n);
            })));
    }

    private void afterAll(String where) throws Exception {
        Run next = desk.watchdog("--state", "state");
        assertEquals(0, next.exit(), where + ": " + next); // the lock is free, the memory whole, the service healed
        assertEquals("", desk.watchdog("--quiet", "--state", "state").out());
        assertTrue(plex.restarts() <= 2, where + ": the restart that was cut off counts");
        assertEquals(1, daemons().size(), where + ": one daemon");
        List<String> heard = heard();
        assertTrue(heard.contains("plex is healthy again"), where + ": " + heard);
        assertTrue(heard.size() <= 4 && heard.stream().filter("plex is down"::equals).count() <= 2, where + ": doubled at most once: " + heard);
        try (Stream<Path> files = Files.walk(folder)) {
            assertEquals(List.of(), files.filter(file -> file.getFileName().toString().endsWith(".tmp")).toList(), where);
        }
    }

    private List<String> heard() throws IOException {
        List<String> titles = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve("heard"), StandardCharsets.UTF_8)) titles.add(line.replaceFirst(":.*", ""));
        return titles;
    }

    /** As on the first day, but for the compiled rules. */
    private void reset() throws Exception {
        daemons().forEach(ProcessHandle::destroyForcibly);
        EdgeWorld.await("the daemons to end", () -> daemons().isEmpty());
        for (String name : List.of("heard", "plex.restarts", "plex.up", "die.1", "die.2", "die.3")) Files.deleteIfExists(folder.resolve(name));
        try (Stream<Path> files = Files.walk(folder.resolve("state"))) {
            for (Path file : files.filter(file -> file.getFileName().toString().startsWith("memory")).toList()) Files.delete(file);
        } catch (java.nio.file.NoSuchFileException none) {
            assertEquals(0, plex.restarts());
        }
    }

    private List<ProcessHandle> daemons() {
        return ProcessHandle.allProcesses().filter(process -> process.info().arguments().map(List::of).orElse(List.of())
            .equals(List.of("300"))).filter(process -> cwd(process).equals(folder)).toList();
    }

    private static Path cwd(ProcessHandle process) {
        try {
            return Files.readSymbolicLink(Path.of("/proc/" + process.pid() + "/cwd"));
        } catch (IOException gone) {
            return Path.of("/");
        }
    }

    /** A pass of its own process; the exit code, 137 when it was killed. */
    private int process(List<String> before) throws Exception {
        List<String> command = new ArrayList<>(before);
        command.addAll(Run.process("--state", "state"));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("printed").toFile()));
        builder.environment().put("HOME", folder.toString());
        return builder.start().waitFor();
    }

    private static boolean traces() throws Exception {
        return new ProcessBuilder("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true").start().waitFor() == 0;
    }

    private void script(String name, String text) throws IOException {
        Path script = Files.writeString(folder.resolve(name), "#!/bin/sh\n" + text + "\n");
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
    }
}
