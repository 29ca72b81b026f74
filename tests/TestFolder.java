import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Clock;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A folder with rules, where watchdog is called in this JVM as its `main` would call it. Times are UTC. */
class TestFolder {
    final Path folder;
    final Map<String, String> env = new HashMap<>();
    Clock clock = Clock.systemUTC();
    boolean terminal;

    /** {@code folder}: a fresh one, as JUnit's @TempDir gives it; it is HOME too. */
    TestFolder(Path folder) {
        this.folder = folder;
        env.put("HOME", folder.toString());
        env.put("PATH", System.getenv("PATH"));
    }

    TestFolder rules(String text) { return file("rules.groovy", text); }

    TestFolder file(String name, String text) {
        try {
            Files.writeString(folder.resolve(name), text);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return this;
    }

    /** A program for /bin/sh. */
    TestFolder script(String name, String text) {
        file(name, "#!/bin/sh\n" + text + "\n");
        try {
            Files.setPosixFilePermissions(folder.resolve(name), PosixFilePermissions.fromString("rwxr-xr-x"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return this;
    }

    TestFolder env(String name, String value) {
        env.put(name, value);
        return this;
    }

    /** Calls watchdog, for example {@code watchdog("check", "plex")}. */
    Run watchdog(String... args) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
        Environment environment = new Environment(
            Map.copyOf(env), folder, clock, print(out), print(err), terminal,
            code -> { throw new AssertionError("halted with " + code); });
        int exit = watchdog.run(environment, args);
        return new Run(exit, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    private static PrintStream print(ByteArrayOutputStream to) {
        return new PrintStream(to, true, StandardCharsets.UTF_8);
    }

    /** The lines of a file that a test or a hook has written; none if there is no such file. */
    List<String> lines(String name) {
        Path file = folder.resolve(name);
        try {
            return Files.exists(file) ? Files.readAllLines(file) : List.of();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The one state folder that calls from here have made. */
    Path state() {
        try (var folders = Files.newDirectoryStream(folder.resolve(".local/state/watchdog"), "rules-*")) {
            return folders.iterator().next();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
