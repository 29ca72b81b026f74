import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Runs the real jbangw with a PATH of a few tools and stand-ins, an empty home and an empty JBang. */
@Order(6)
class JbangwTest {

    private static final Path JBANGW = Path.of("jbangw").toAbsolutePath();
    private static final String JAR = "jbang-cli-0.132.1-all.jar";
    private static final List<String> TOOLS = List.of("sh", "bash", "dash", "cat", "chmod", "cp", "grep",
            "head", "mkdir", "mv", "rm", "sed", "sha256sum", "shasum", "tail");

    /** By JBANG_DIR, because Java takes the home folder from the user database and not from HOME. */
    @TempDir
    private static Path jbangDir;
    /** Built by JBang once for all tests. */
    @TempDir
    private static Path scriptDir;
    private static Path realJar, script;

    @TempDir
    private Path temp;
    private Path bin, cache;
    private final Map<String, String> environment = new TreeMap<>();

    @BeforeAll
    static void writeTheScript() throws IOException {
        script = Files.writeString(scriptDir.resolve("Script.java"), """
            public class Script {
                public static void main(String... words) throws Exception {
                    switch (words[0]) {
                        case "words" -> System.out.print(String.join("\\0", words) + "\\0");
                        case "exit" -> System.exit(Integer.parseInt(words[1]));
                        case "pid" -> System.out.print(ProcessHandle.current().pid());
                        case "input" -> System.in.transferTo(System.out);
                    }
                }
            }
            """);
    }

    /** A checkout that was started by another jbang fetches the jar here, as its user would. */
    @BeforeAll
    static void theRealJarIsInTheUsersCache() throws Exception {
        var path = Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
                .filter(folder -> !Files.exists(Path.of(folder, "jbang")))
                .collect(Collectors.joining(File.pathSeparator));
        var jbangw = new ProcessBuilder(JBANGW.toString(), "version");
        jbangw.environment().put("PATH", path);
        Run.of(jbangw).exits(0);
        var cache = System.getenv().getOrDefault("XDG_CACHE_HOME", System.getenv("HOME") + "/.cache");
        realJar = Path.of(cache, "watchdog", JAR);
    }

    @BeforeEach
    void anEmptyHomeAndAShortPath() throws IOException {
        bin = Files.createDirectory(temp.resolve("bin"));
        for (var tool : TOOLS) lend(tool);
        standIn("java", "exec '" + Path.of(System.getProperty("java.home"), "bin", "java") + "' \"$@\"");
        cache = temp.resolve("home/.cache/watchdog");
        environment.put("PATH", bin.toString());
        environment.put("HOME", temp.resolve("home").toString());
        environment.put("JBANG_DIR", jbangDir.toString());
    }

    @Test
    void shellcheckFindsNothing() throws Exception {
        assumeTrue(lend("shellcheck"), "shellcheck is not installed");
        var ours = Stream.of("jbangw", ".ci/run", "tests/bench")
                .map(file -> JBANGW.resolveSibling(file).toString()).toList();
        assertEquals(new Run(0, "", ""), run(bin.resolve("shellcheck"), ours));
    }

    /** An empty argument is not among them, because JBang itself loses it when it prints the command. */
    @ParameterizedTest
    @ValueSource(strings = {"sh", "bash", "dash"})
    void argumentsArriveUnchanged(String shell) throws Exception {
        assumeTrue(Files.exists(bin.resolve(shell)), shell + " is not installed");
        cacheTheRealJar();
        var arguments = List.of("words", "two words", " ", "it's", "\"quoted\"", "$HOME", "`id`", "$(id)",
                "a\\b\\n", "*", "a;b|c&d", "~", "line\nbreak", "end\n", "--version", "#", "!!", "a=b");
        var words = new ArrayList<>(List.of(JBANGW.toString(), script.toString()));
        words.addAll(arguments);
        var run = run(bin.resolve(shell), words);
        assertEquals(arguments, List.of(run.out().split("\0")), run.err());
    }

    @Test
    void theExitCodeOfTheProgramArrives() throws Exception {
        cacheTheRealJar();
        jbangw(script.toString(), "exit", "7").exits(7);
    }

    @Test
    void theExitCodeAndOutputOfJBangItselfArrive() throws Exception {
        cacheTheRealJar();
        assertEquals(new Run(0, "0.132.1\n", ""), jbangw("version", "--quiet"));
        jbangw("no-such-script.java").exits(2).errs("no-such-script.java");
    }

    @Test
    void theProgramTakesThePlaceOfTheShell() throws Exception {
        cacheTheRealJar();
        var process = start(JBANGW, List.of(script.toString(), "pid"));
        assertEquals(Long.toString(process.pid()), finish(process).out());
    }

    @Test
    void standardInputReachesTheProgram() throws Exception {
        cacheTheRealJar();
        var process = start(JBANGW, List.of(script.toString(), "input"));
        process.getOutputStream().write("from outside".getBytes());
        assertEquals("from outside", finish(process).out());
    }

    @Test
    void aJBangOnThePathIsPreferred() throws Exception {
        Files.delete(bin.resolve("java"));
        standIn("jbang", "echo \"their jbang: $1\"; exit 3");
        assertEquals(new Run(3, "their jbang: two words\n", ""), jbangw("two words"));
    }

    @Test
    void mavenIsAskedOnlyOnce() throws Exception {
        standIn("mvn", "cp '" + realJar + "' . && echo \"$*\" >>'" + temp.resolve("asked") + "'");
        var fetching = "jbangw: fetching JBang 0.132.1 with Maven, once\n";
        assertEquals(new Run(0, "0.132.1\n", fetching), jbangw("version"));
        assertEquals(new Run(0, "0.132.1\n", ""), jbangw("version"));
        assertEquals(List.of("-q -B -Dstyle.color=never "
                + "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "
                + "-Dartifact=dev.jbang:jbang-cli:0.132.1:jar:all -DoutputDirectory=."),
                Files.readAllLines(temp.resolve("asked")));
        assertEquals(List.of(JAR), namesIn(cache));
    }

    @Test
    void twoFirstStartsAtOnceDoNotDisturbEachOther() throws Exception {
        standIn("mvn", "cp '" + realJar + "' .");
        var first = start(JBANGW, List.of("version"));
        var second = start(JBANGW, List.of("version"));
        assertEquals("0.132.1\n", finish(first).out());
        assertEquals("0.132.1\n", finish(second).out());
        assertEquals(List.of(JAR), namesIn(cache));
    }

    @Test
    void aDamagedJarInTheCacheIsFetchedAgain() throws Exception {
        Files.createDirectories(cache);
        Files.writeString(cache.resolve(JAR), "cut short");
        standIn("mvn", "cp '" + realJar + "' .");
        var run = jbangw("version");
        assertEquals("0.132.1\n", run.out());
        assertEquals("jbangw: " + cache.resolve(JAR)
                + " was damaged (wrong SHA-256); deleted it and fetching it again",
                run.err().lines().findFirst().orElseThrow());
    }

    @Test
    void aWrongJarFromMavenIsNotRunAndNotKept() throws Exception {
        standIn("mvn", "echo not JBang >" + JAR);
        assertFails("what Maven fetched is not JBang 0.132.1 (wrong SHA-256); "
                + "deleted it, do so in Maven's own repository too");
        assertEquals(List.of(), namesIn(cache));
    }

    @Test
    void whenMavenFailsItsFirstErrorIsTold() throws Exception {
        standIn("mvn", "echo '[ERROR] Unknown host'; echo '[ERROR] Re-run Maven with -e'; exit 1");
        assertFails("Maven could not fetch JBang; check the network and try again. Maven said: Unknown host");
        assertEquals(List.of(), namesIn(cache));
    }

    @Test
    void withoutJavaItSaysSo() throws Exception {
        Files.delete(bin.resolve("java"));
        assertFails("no Java found (looked for java); install a JDK, version 17 or newer");
    }

    @Test
    void anOldJavaIsNamed() throws Exception {
        Files.delete(bin.resolve("java"));
        standIn("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2");
        assertFails("java is version 11; install a JDK, version 17 or newer");
        standIn("java", "echo 'java version \"1.8.0_202\"' >&2");
        assertFails("java is version 1; install a JDK, version 17 or newer");
    }

    /** As macOS's own java does where none is installed. */
    @Test
    void aJavaThatDoesNotWorkIsNamed() throws Exception {
        Files.delete(bin.resolve("java"));
        standIn("java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1");
        assertFails("java does not work; install a JDK, version 17 or newer");
    }

    @Test
    void javaHomeComesBeforeThePath() throws Exception {
        standIn("java-of-16", "echo 'openjdk version \"16\" 2021-03-16' >&2");
        var home = Files.createDirectories(temp.resolve("jdk/bin")).getParent();
        Files.move(bin.resolve("java-of-16"), home.resolve("bin/java"));
        environment.put("JAVA_HOME", home.toString());
        assertFails(home + "/bin/java is version 16; install a JDK, version 17 or newer");
        environment.put("JAVA_HOME", "/nowhere");
        assertFails("no Java found (JAVA_HOME is /nowhere, looked for /nowhere/bin/java); "
                + "install a JDK, version 17 or newer");
    }

    @Test
    void withoutAHomeThereIsNowhereToKeepJBang() throws Exception {
        environment.remove("HOME");
        assertFails("neither HOME nor XDG_CACHE_HOME is set, so there is no folder to keep JBang in");
    }

    @Test
    void aCacheThatCannotBeWrittenIsNamed() throws Exception {
        standIn("mvn", "exit 1");
        Files.writeString(temp.resolve("home"), "a file where the folder should be");
        assertFails("cannot write to " + cache + "; make it writable or set XDG_CACHE_HOME");
    }

    @Test
    void withoutMavenJBangsInstallerIsRunOnceWithThePinnedVersion() throws Exception {
        environment.put("JBANG_DIR", temp.resolve("jbang's").toString());
        standIn("curl", """
                cat <<'END'
                mkdir -p "$JBANG_DIR/bin"
                says='installed %s, given $#: $*'
                printf '#!/bin/sh\\necho "'"$says"'"\\n' $JBANG_DOWNLOAD_VERSION >"$JBANG_DIR/bin/jbang"
                chmod +x "$JBANG_DIR/bin/jbang"
                END""");
        var installing = "jbangw: no Maven on PATH; installing JBang 0.132.1 with its own installer\n";
        assertEquals(new Run(0, "installed 0.132.1, given 1: two words\n", installing), jbangw("two words"));
        assertEquals(new Run(0, "installed 0.132.1, given 1: again\n", ""), jbangw("again"));
    }

    @Test
    void whenTheInstallerCannotBeFetchedItSaysSo() throws Exception {
        standIn("curl", "exit 6");
        assertFails("could not fetch JBang's installer with curl; check the network or install Maven");
    }

    /** Nothing on stdout, only jbangw's own sentences on stderr, and this one last. */
    private void assertFails(String sentence) throws Exception {
        var run = jbangw("version").exits(1);
        assertEquals("", run.out());
        assertTrue(run.err().lines().allMatch(line -> line.startsWith("jbangw: ")), run.err());
        assertTrue(run.err().endsWith(sentence + "\n"), run.err());
    }

    private Run jbangw(String... arguments) throws Exception {
        return run(JBANGW, List.of(arguments));
    }

    private Run run(Path program, List<String> arguments) throws Exception {
        return finish(start(program, arguments));
    }

    private Process start(Path program, List<String> arguments) throws IOException {
        var command = new ArrayList<>(List.of(program.toString()));
        command.addAll(arguments);
        var builder = new ProcessBuilder(command).directory(temp.toFile());
        builder.environment().clear();
        builder.environment().putAll(environment);
        return builder.start();
    }

    /** Reads one stream after the other, because all that is printed here fits into a pipe. */
    private static Run finish(Process process) throws Exception {
        process.getOutputStream().close();
        var out = new String(process.getInputStream().readAllBytes());
        var err = new String(process.getErrorStream().readAllBytes());
        return new Run(process.waitFor(), out, err);
    }

    private void cacheTheRealJar() throws IOException {
        Files.createDirectories(cache);
        Files.copy(realJar, cache.resolve(JAR));
    }

    private void standIn(String name, String body) throws IOException {
        var file = Files.writeString(bin.resolve(name), "#!/bin/sh\n" + body + "\n").toFile();
        assertTrue(file.setExecutable(true));
    }

    /** Puts a tool on the short PATH if this machine has it. Not as a link, of which JUnit would warn. */
    private boolean lend(String tool) throws IOException {
        for (var folder : System.getenv("PATH").split(File.pathSeparator)) {
            var found = Path.of(folder, tool);
            if (!Files.isExecutable(found)) continue;
            standIn(tool, "exec '" + found + "' \"$@\"");
            return true;
        }
        return false;
    }

    private static List<String> namesIn(Path folder) throws IOException {
        try (var files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }
}
