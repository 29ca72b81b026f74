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

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Runs the real jbangw with a PATH of a few tools and stand-ins, an empty home and an empty JBang. */
class JbangwTest {

    private static final Path JBANGW = Path.of("jbangw").toAbsolutePath();
    private static final String JAR = "jbang-cli-0.132.1-all.jar";
    private static final List<String> TOOLS = List.of("sh", "bash", "dash", "cat", "chmod", "cp", "grep", "head",
            "mkdir", "mv", "rm", "sed", "sha256sum", "shasum", "tail");

    /** Java takes the home folder from the user database, not from HOME: JBang's own folder is given by JBANG_DIR. */
    @TempDir
    private static Path jbangDir;
    private static Path realJar;

    @TempDir
    private Path temp;
    private Path bin, cache;
    private final Map<String, String> environment = new TreeMap<>();

    private record Ran(int exit, String out, String err) { }

    /** A checkout that was started by another jbang fetches the jar here, as its user would. */
    @BeforeAll
    static void theRealJarIsInTheUsersCache() throws Exception {
        var path = Arrays.stream(System.getenv("PATH").split(File.pathSeparator))
                .filter(folder -> !Files.exists(Path.of(folder, "jbang")))
                .collect(Collectors.joining(File.pathSeparator));
        var jbangw = new ProcessBuilder(JBANGW.toString(), "version").inheritIO();
        jbangw.environment().put("PATH", path);
        assertEquals(0, jbangw.start().waitFor());
        var home = System.getenv("XDG_CACHE_HOME");
        realJar = (home == null ? Path.of(System.getenv("HOME"), ".cache") : Path.of(home)).resolve("watchdog/" + JAR);
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
        var ours = List.of(JBANGW.toString(), JBANGW.resolveSibling(".ci/run").toString());
        assertEquals(new Ran(0, "", ""), run(bin.resolve("shellcheck"), ours));
    }

    // An empty argument is not among them: JBang itself loses it when it prints the command.
    @ParameterizedTest
    @ValueSource(strings = {"sh", "bash", "dash"})
    void argumentsArriveUnchanged(String shell) throws Exception {
        assumeTrue(Files.exists(bin.resolve(shell)), shell + " is not installed");
        cacheTheRealJar();
        var script = script("Arguments", "for (var argument : args) System.out.print(argument + '\\0');");
        var arguments = List.of("two words", " ", "it's", "\"quoted\"", "$HOME", "`id`", "$(id)", "a\\b\\n", "*",
                "a;b|c&d", "~", "line\nbreak", "end\n", "--version", "#", "!!", "a=b");
        var words = new ArrayList<>(List.of(JBANGW.toString(), script));
        words.addAll(arguments);
        var ran = run(bin.resolve(shell), words);
        assertEquals(arguments, List.of(ran.out.split("\0")), ran.err);
    }

    @Test
    void theExitCodeOfTheProgramArrives() throws Exception {
        cacheTheRealJar();
        assertEquals(7, jbangw(script("Seven", "System.exit(7);")).exit);
    }

    @Test
    void theExitCodeAndOutputOfJBangItselfArrive() throws Exception {
        cacheTheRealJar();
        assertEquals(new Ran(0, "0.132.1\n", ""), jbangw("version", "--quiet"));
        var ran = jbangw("no-such-script.java");
        assertEquals(2, ran.exit);
        assertTrue(ran.err.contains("no-such-script.java"), ran.err);
    }

    @Test
    void theProgramTakesThePlaceOfTheShell() throws Exception {
        cacheTheRealJar();
        var process = start(JBANGW, List.of(script("Pid", "System.out.print(ProcessHandle.current().pid());")));
        assertEquals(Long.toString(process.pid()), finish(process).out);
    }

    @Test
    void standardInputReachesTheProgram() throws Exception {
        cacheTheRealJar();
        var process = start(JBANGW, List.of(script("Cat", "System.in.transferTo(System.out);")));
        process.getOutputStream().write("from outside".getBytes());
        assertEquals("from outside", finish(process).out);
    }

    @Test
    void aJBangOnThePathIsPreferred() throws Exception {
        Files.delete(bin.resolve("java"));
        standIn("jbang", "echo \"their jbang: $1\"; exit 3");
        assertEquals(new Ran(3, "their jbang: two words\n", ""), jbangw("two words"));
    }

    @Test
    void mavenIsAskedOnlyOnce() throws Exception {
        standIn("mvn", "cp '" + realJar + "' . && echo \"$*\" >>'" + temp.resolve("asked") + "'");
        assertEquals(new Ran(0, "0.132.1\n", "jbangw: fetching JBang 0.132.1 with Maven, once\n"), jbangw("version"));
        assertEquals(new Ran(0, "0.132.1\n", ""), jbangw("version"));
        assertEquals(List.of("-q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "
                + "-Dartifact=dev.jbang:jbang-cli:0.132.1:jar:all -DoutputDirectory=."),
                Files.readAllLines(temp.resolve("asked")));
        assertEquals(List.of(JAR), namesIn(cache));
    }

    @Test
    void twoFirstStartsAtOnceDoNotDisturbEachOther() throws Exception {
        standIn("mvn", "cp '" + realJar + "' .");
        var first = start(JBANGW, List.of("version"));
        var second = start(JBANGW, List.of("version"));
        assertEquals("0.132.1\n", finish(first).out);
        assertEquals("0.132.1\n", finish(second).out);
        assertEquals(List.of(JAR), namesIn(cache));
    }

    @Test
    void aDamagedJarInTheCacheIsFetchedAgain() throws Exception {
        Files.createDirectories(cache);
        Files.writeString(cache.resolve(JAR), "cut short");
        standIn("mvn", "cp '" + realJar + "' .");
        var ran = jbangw("version");
        assertEquals("0.132.1\n", ran.out);
        assertEquals("jbangw: " + cache.resolve(JAR) + " was damaged (wrong SHA-256); deleted it and fetching it again",
                ran.err.lines().findFirst().orElseThrow());
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

    // As the java of macOS does when there is none.
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
                printf '#!/bin/sh\\necho "installed %s, given $#: $*"\\n' $JBANG_DOWNLOAD_VERSION >"$JBANG_DIR/bin/jbang"
                chmod +x "$JBANG_DIR/bin/jbang"
                END""");
        assertEquals(new Ran(0, "installed 0.132.1, given 1: two words\n",
                "jbangw: no Maven on PATH; installing JBang 0.132.1 with its own installer\n"), jbangw("two words"));
        assertEquals(new Ran(0, "installed 0.132.1, given 1: again\n", ""), jbangw("again"));
    }

    @Test
    void whenTheInstallerCannotBeFetchedItSaysSo() throws Exception {
        standIn("curl", "exit 6");
        assertFails("could not fetch JBang's installer with curl; check the network or install Maven");
    }

    /** It fails in our own words alone: nothing on stdout, and the last sentence on stderr is this one. */
    private void assertFails(String sentence) throws Exception {
        var ran = jbangw("version");
        assertEquals(1, ran.exit, ran.err);
        assertEquals("", ran.out);
        assertTrue(ran.err.lines().allMatch(line -> line.startsWith("jbangw: ")), ran.err);
        assertTrue(ran.err.endsWith(sentence + "\n"), ran.err);
    }

    private Ran jbangw(String... arguments) throws Exception {
        return run(JBANGW, List.of(arguments));
    }

    private Ran run(Path program, List<String> arguments) throws Exception {
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

    /** One stream after the other: all that is written here fits into a pipe. */
    private static Ran finish(Process process) throws Exception {
        process.getOutputStream().close();
        var out = new String(process.getInputStream().readAllBytes());
        var err = new String(process.getErrorStream().readAllBytes());
        return new Ran(process.waitFor(), out, err);
    }

    private void cacheTheRealJar() throws IOException {
        Files.createDirectories(cache);
        Files.copy(realJar, cache.resolve(JAR));
    }

    private String script(String name, String body) throws IOException {
        return Files.writeString(temp.resolve(name + ".java"), """
                public class %s {
                    public static void main(String... args) throws Exception { %s }
                }
                """.formatted(name, body)).toString();
    }

    private void standIn(String name, String body) throws IOException {
        var file = Files.writeString(bin.resolve(name), "#!/bin/sh\n" + body + "\n").toFile();
        assertTrue(file.setExecutable(true));
    }

    /** Puts a tool of this machine on the short PATH, if the machine has it. No link: JUnit would warn of each. */
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
