import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** What a person sees of one call of watchdog: its exit code and what it printed. */
record Run(int exit, String out, String err) {

    /** A folder with rules in it, where watchdog is called in this very JVM, as its `main` would call it. */
    static final class Desk {
        final Path folder;
        final Map<String, String> env = new HashMap<>();
        Clock clock = Clock.systemUTC();

        /** {@code folder}: a fresh one, as JUnit's @TempDir gives it; it is HOME too. */
        Desk(Path folder) {
            this.folder = folder;
            env.put("HOME", folder.toString());
            env.put("PATH", System.getenv("PATH"));
        }

        Desk rules(String text) { return file("rules.groovy", text); }

        Desk file(String name, String text) {
            try {
                Files.writeString(folder.resolve(name), text);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return this;
        }

        Desk env(String name, String value) {
            env.put(name, value);
            return this;
        }

        /** Calls watchdog, for example {@code watchdog("check", "plex")}. */
        Run watchdog(String... args) {
            ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
            Environment world = new Environment(Map.copyOf(env), folder, clock, print(out), print(err), false,
                code -> { throw new AssertionError("halted with " + code); });
            int exit = watchdog.run(world, args);
            return new Run(exit, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
        }

        private static PrintStream print(ByteArrayOutputStream to) {
            return new PrintStream(to, true, StandardCharsets.UTF_8);
        }

        /** The one state folder that calls from here have made. */
        Path state() {
            try (Stream<Path> folders = Files.list(folder.resolve(".local/state/watchdog"))) {
                return folders.filter(f -> f.getFileName().toString().startsWith("rules-")).findFirst().orElseThrow();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    /** The words of a command that runs watchdog as a process of its own, with the class path of the tests. */
    static List<String> process(String... args) {
        return Stream.concat(Stream.of(System.getProperty("java.home") + "/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", System.getProperty("java.class.path"), "watchdog"), Stream.of(args)).toList();
    }

    /** A clock that only moves when it is told to. */
    static final class HandClock extends Clock {
        private Instant now;

        HandClock(Instant now) { this.now = now; }

        void pass(Duration time) { now = now.plus(time); }

        @Override public Instant instant() { return now; }
        @Override public ZoneId getZone() { return ZoneId.of("UTC"); }
        @Override public Clock withZone(ZoneId zone) { return this; }
    }
}
