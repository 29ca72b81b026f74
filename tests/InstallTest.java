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
import java.util.List;
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
