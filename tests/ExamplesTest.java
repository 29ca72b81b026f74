import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every file in examples/ is good on a machine that has the programs and secrets it names. */
class ExamplesTest {
    private static final List<String> PROGRAMS =
        List.of("cloudflared", "curl", "docker", "launchctl", "mail", "ssh", "sudo");
    @TempDir Path folder;

    static Stream<Path> examples() throws IOException {
        return Files.walk(Path.of("examples")).filter(file -> file.toString().endsWith(".groovy")).sorted();
    }

    @ParameterizedTest @MethodSource("examples")
    void isGood(Path example) throws IOException {
        Files.createDirectories(folder.resolve(".local/bin"));
        TestFolder home = new TestFolder(folder).file("rules.groovy", Files.readString(example))
            .env("PUSHOVER_TOKEN", "a".repeat(30)).env("PUSHOVER_USER", "u".repeat(30))
            .env("SLACK_WEBHOOK", "https://hooks.example.com/x");
        for (String program : PROGRAMS) home.script(".local/bin/" + program, "exit 0");

        Run run = home.watchdog("validate");

        // mail is named by its usual path, which not every machine has.
        List<String> mistakes = run.err().lines().filter(line -> !line.contains("/usr/bin/mail")).toList();
        assertEquals(List.of(), mistakes, run.toString());
    }
}
