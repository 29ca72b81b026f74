import static java.nio.file.StandardCopyOption.COPY_ATTRIBUTES;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** watchdog as it is installed: by JBang, from a catalog, with a JBang folder that only this class uses. */
@Order(3)
class InstallTest {
    private static final Path CHECKOUT = Path.of("").toAbsolutePath();
    private static final int DEMO_PORT = 18765;
    private static final Duration MONTH = Duration.ofDays(30);

    @TempDir
    private static Path jbang;
    @TempDir
    private Path temp;
    private TestFolder home;
    private final Map<String, String> environment = new HashMap<>();

    @BeforeEach
    void aServiceThatIsDown() {
        home = new TestFolder(temp);
        rules("sh 'touch up'");
    }

    private void rules(String remedy) {
        home.rules("""
            watch('it') {
                command 'test -e up'
                attempts 1
                restart { %s }
            }
            """.formatted(remedy));
    }

    @Test
    void aCatalogAddedFromAFileRunsOfflineAndAnEditOfTheRulesBuildsNothing() throws Exception {
        jbang("catalog", "add", "--name", "file", CHECKOUT + "/jbang-catalog.json").exits(0);
        assertHealed("'touch up'", jbang("--offline", "watchdog@file"));
        assertHealthy(jbang("--offline", "watchdog@file"));
        List<String> built = built();
        assertFalse(built.isEmpty());
        Files.delete(home.folder.resolve("up"));
        rules("run 'touch up edited'");
        assertHealed("'touch up edited'", jbang("--offline", "watchdog@file"));
        assertEquals(built, built());
        jbang("--offline", "watchdog@file", "drill", "it").exits(2).errs("jbang drill@catalog");
    }

    /** The catalog's server is gone and all that JBang keeps has expired: then a watchdog has to run. */
    @Test
    void aCatalogFromTheWebRunsOfflineWhenItsServerIsGoneAndTheCacheIsOld() throws Exception {
        try (TestServer web = new TestServer((path, body) -> file(CHECKOUT.resolve(path.substring(1))))) {
            jbang("trust", "add", web.url()).exits(0);
            jbang("catalog", "add", "--name", "web", web.url() + "jbang-catalog.json").exits(0);
            jbang("watchdog@web", "--version").exits(0);
        }
        makeOlder(jbang.resolve("cache"));
        assertHealed("'touch up'", jbang("--offline", "watchdog@web"));
        assertHealthy(jbang("--offline", "watchdog@web"));
    }

    private static TestServer.Answer file(Path file) throws IOException {
        if (!Files.isRegularFile(file)) return new TestServer.Answer(404, "");
        return new TestServer.Answer(200, Files.readString(file));
    }

    private static void makeOlder(Path cache) throws IOException {
        try (Stream<Path> files = Files.walk(cache)) {
            for (Path file : files.toList()) {
                FileTime then = FileTime.from(Files.getLastModifiedTime(file).toInstant().minus(MONTH));
                Files.setLastModifiedTime(file, then);
            }
        }
    }

    /** What the README promises on its first lines. */
    @Test
    void theDemoOfACleanCloneHealsAndHealsAgain() throws Exception {
        assumeTrue(Files.exists(CHECKOUT.resolve(".git")), "this is no git checkout");
        assumeTrue(isFree(DEMO_PORT), "the demo's port " + DEMO_PORT + " is in use");
        run(temp, List.of("git", "clone", "-q", CHECKOUT.toString(), "clone")).exits(0);
        try {
            assertTrue(demo().startsWith("demo  healed"));
            long pid = demoProcess();
            assertTrue(demo().startsWith("demo  healthy"));
            assertEquals(pid, demoProcess());
            ProcessHandle.of(pid).orElseThrow().destroyForcibly();
            Wait.until("the demo to be gone", () -> isFree(DEMO_PORT));
            assertTrue(demo().startsWith("demo  healed"));
            assertNotEquals(pid, demoProcess());
        } finally {
            if (!isFree(DEMO_PORT)) ProcessHandle.of(demoProcess()).ifPresent(ProcessHandle::destroyForcibly);
        }
    }

    private String demo() throws Exception {
        return run(temp.resolve("clone"), List.of("./jbangw", "demo")).exits(0).out();
    }

    /** The id of the demo's process, which its page contains. */
    private static long demoProcess() throws Exception {
        URI url = URI.create("http://127.0.0.1:" + DEMO_PORT + "/");
        String page = HttpClient.newHttpClient()
            .send(HttpRequest.newBuilder(url).build(), BodyHandlers.ofString()).body();
        Matcher number = Pattern.compile("process (\\d+)").matcher(page);
        assertTrue(number.find(), page);
        return Long.parseLong(number.group(1));
    }

    private static boolean isFree(int port) {
        try (var socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
            return socket.isBound();
        } catch (IOException inUse) {
            return false;
        }
    }

    /** With a Java that has no class-data archive of its own, as some builds have none. */
    @Test
    void anInstalledScheduleNeedsNeitherJBangNorTheCheckoutNorItsFirstJava() throws Exception {
        Path checkout = copyOfTheCheckout(), java = copyOfJava();
        Files.createDirectory(temp.resolve("bin"));
        home.script("bin/crontab", "case $1 in -l) cat ~/crontab ;; *) cat \"$1\" >~/crontab ;; esac");
        environment.put("PATH", temp.resolve("bin") + ":" + System.getenv("PATH"));
        environment.put("JAVA_HOME", java.toString());
        run(checkout, List.of("./jbangw", "schedule", "--install", "--rules", temp + "/rules.groovy",
            "--page", temp + "/page.html")).exits(0).errs("would restart: sh 'touch up'");
        Path manual = temp.resolve(".local/share/man/man1/watchdog.1");
        assertTrue(Files.readString(manual).contains("watchdog report"));
        Files.move(checkout, temp.resolve("moved"));
        Files.move(jbang.resolve("cache"), jbang.resolve("gone"));
        try {
            assertEquals("it  healed", scheduledPass(0));
            assertTrue(Files.readString(temp.resolve("page.html")).startsWith("<!DOCTYPE html>"));

            Files.delete(temp.resolve("up"));
            Files.move(java, temp.resolve("java-moved"));
            assertEquals("it  healed", scheduledPass(0));
            assertEquals(hasArchive(JAVA), madeArchives() > 0);

            Path command = temp.resolve(".local/bin/watchdog"), log = home.state().resolve("schedule.log");
            if (Files.exists(Path.of("/usr/bin/shellcheck")))
                assertEquals(new Run(0, "", ""), run(temp, List.of("shellcheck", command.toString())));
            String script = Files.readString(command);
            Files.writeString(command, script.replaceAll("-ge \\d+", "-ge 999"));
            Files.writeString(log, "x".repeat(1 << 21));
            assertEquals("watchdog: " + java, scheduledPass(4));
            assertTrue(Files.readString(log).contains("/bin/java is gone, and there is no Java"));
            assertEquals(1 << 21, Files.size(log.resolveSibling("schedule.log.old")));

            Files.writeString(command, script);
            for (String tool : watchdog.TOOLS)
                run(temp, List.of(command.toString(), tool, "--help")).exits(0)
                    .says("Usage: watchdog " + tool);
            environment.put("JAVA_HOME", JAVA.toString());
            var json = run(temp, List.of(command.toString(), "schedule", "--install", "--json", "--rules",
                "rules.groovy")).exits(0).json();
            assertEquals(List.of(command.toString(), manual.toString(), "a block in your crontab"),
                json.get("wrote"));
            assertEquals(0, ((Map<?, ?>) json.get("pass")).get("exit"));
            run(temp, List.of(command.toString(), "schedule", "--remove", "--rules", "rules.groovy"))
                .exits(0).says("removed  a block");
            assertEquals(List.of(), home.lines("crontab"));
            assertFalse(Files.exists(manual));
        } finally {
            Files.move(jbang.resolve("gone"), jbang.resolve("cache"));
            CompiledRules.delete(temp.resolve("java-moved")); // JUnit would warn of each link
        }
    }

    private static final Path JAVA = Path.of(System.getProperty("java.home"));

    private Path copyOfTheCheckout() throws Exception {
        Path copy = Files.createDirectory(temp.resolve("checkout"));
        run(CHECKOUT, List.of("cp", "-r", "watchdog.java", "docs", "tools", "jbang-catalog.json",
            "jbangw", copy.toString())).exits(0);
        return copy;
    }

    /** Another build of Java: links, save for the files by which Java finds its folder. */
    private Path copyOfJava() throws IOException {
        Path copy = temp.resolve("java");
        try (Stream<Path> files = Files.walk(JAVA)) {
            for (Path file : files.toList()) {
                Path to = copy.resolve(JAVA.relativize(file).toString());
                String name = file.getFileName().toString();
                if (Files.isDirectory(file)) Files.createDirectory(to);
                else if (name.equals("release")) Files.writeString(to, Files.readString(file) + "COPY=1\n");
                else if (name.matches("java|libjvm\\..*")) Files.copy(file, to, COPY_ATTRIBUTES);
                else if (!name.endsWith(".jsa")) Files.createSymbolicLink(to, file);
            }
        }
        return copy;
    }

    private static boolean hasArchive(Path java) {
        return Files.exists(java.resolve("lib/server/classes.jsa"));
    }

    private long madeArchives() throws IOException {
        try (Stream<Path> files = Files.walk(temp.resolve(".local/share/watchdog"))) {
            return files.map(Path::toFile)
                .filter(file -> file.getName().endsWith(".jsa") && file.length() > 0).count();
        }
    }

    /** Runs the line of the crontab as cron does. Returns the beginning of the last line that it logged. */
    private String scheduledPass(int exit) throws Exception {
        String line = home.lines("crontab").stream().filter(text -> text.startsWith("*/5 ")).findFirst()
            .orElseThrow().replace("*/5 * * * * ", "");
        Run run = run(temp, List.of("env", "-i", "HOME=" + temp, "PATH=/usr/bin:/bin", "JAVA_HOME=" + JAVA,
            "sh", "-c", line));
        List<String> log = Files.readAllLines(home.state().resolve("schedule.log"));
        assertEquals(new Run(exit, "", exit == 4 ? log.get(log.size() - 1) + "\n" : ""), run);
        return log.get(log.size() - 1).replaceFirst("( {6}|/bin/java is gone).*", "")
            .replaceFirst("^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d  ", "");
    }

    // ---- helpers ------------------------------------------------------------------------------------

    private static void assertHealed(String words, Run pass) {
        assertTrue(pass.exits(0).says(words).out().startsWith("it  healed"), pass.out());
    }

    private static void assertHealthy(Run pass) {
        assertTrue(pass.exits(0).out().startsWith("it  healthy"), pass.out());
    }

    private Run jbang(String... words) throws Exception {
        return run(temp, Stream.concat(Stream.of(CHECKOUT + "/jbangw"), Stream.of(words)).toList());
    }

    /** With a new HOME, but the JBang that jbangw has fetched. Java finds Maven's folder without HOME. */
    private Run run(Path folder, List<String> words) throws Exception {
        var builder = new ProcessBuilder(words).directory(folder.toFile());
        builder.environment().putIfAbsent("XDG_CACHE_HOME", System.getenv("HOME") + "/.cache");
        builder.environment().put("HOME", temp.toString());
        builder.environment().put("JBANG_DIR", jbang.toString());
        builder.environment().remove("XDG_STATE_HOME");
        builder.environment().putAll(environment);
        return Run.of(builder);
    }

    /** Every jar that JBang has made of watchdog.java, with the time at which it was written. */
    private static List<String> built() throws IOException {
        try (Stream<Path> files = Files.walk(jbang.resolve("cache/jars"))) {
            return files.filter(file -> file.toString().endsWith(".jar"))
                .map(file -> file + " " + file.toFile().lastModified()).sorted().toList();
        }
    }
}
