import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** What a person sees of one call of a command: its exit code and what it printed. */
record Run(int exit, String out, String err) {

    /** Runs a command to its end. It prints to files: a daemon that it starts could hold a pipe open. */
    static Run of(ProcessBuilder command) throws IOException, InterruptedException {
        Path out = Files.createTempFile("run", ".out"), err = Files.createTempFile("run", ".err");
        try {
            int exit = command.redirectOutput(out.toFile()).redirectError(err.toFile()).start().waitFor();
            return new Run(exit, Files.readString(out), Files.readString(err));
        } finally {
            Files.delete(out);
            Files.delete(err);
        }
    }

    /** The words of a command that runs watchdog in a new process, with the class path of the tests. */
    static List<String> process(String... args) {
        var java = Stream.of(System.getProperty("java.home") + "/bin/java", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC", "-cp", System.getProperty("java.class.path"));
        return Stream.of(java, Stream.of("watchdog"), Stream.of(args)).flatMap(words -> words).toList();
    }

    /** What was printed with --json. */
    @SuppressWarnings("unchecked") Map<String, Object> json() {
        return (Map<String, Object>) new JsonSlurper().parseText(out);
    }

    /** The line of one watch; fails if none starts with its name. */
    String line(String watch) {
        return out.lines().filter(line -> line.startsWith(watch + " ")).findFirst()
            .orElseThrow(() -> failure("a line of " + watch));
    }

    /** Each of the three fails with everything that was printed. */
    Run exits(int code) {
        assertEquals(code, exit, () -> "exit code of " + this);
        return this;
    }

    Run says(String part) {
        assertTrue(out.contains(part), () -> failure(part).getMessage());
        return this;
    }

    Run errs(String part) {
        assertTrue(err.contains(part), () -> failure(part).getMessage());
        return this;
    }

    private AssertionError failure(String expected) {
        return new AssertionError("expected: " + expected + "\nbut " + this);
    }

    @Override public String toString() { return "exit code " + exit + "\nout: " + out + "\nerr: " + err; }
}
