import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
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
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Watchdog as it is installed: by JBang, out of a catalog, with a JBang folder that only this class uses. */
class InstallTest {
    private static final Path CHECKOUT = Path.of("").toAbsolutePath();
    private static final int DEMO_PORT = 18765;
    private static final Duration MONTH = Duration.ofDays(30);

    @TempDir
    private static Path jbang;
    @TempDir
    private Path folder;

    @BeforeEach
    void aServiceThatIsDown() throws IOException {
        rules("sh 'touch up'");
    }

    @Test
    void aCatalogAddedFromAFileRunsThePassOffline() throws Exception {
        assertEquals(0, jbang("catalog", "add", "--force", "--name", "file", CHECKOUT + "/jbang-catalog.json").exit());
        assertHealed("ran 'touch up'", jbang("--offline", "watchdog@file"));
        Run second = jbang("--offline", "watchdog@file");
        assertEquals(0, second.exit(), second.out() + second.err());
        assertTrue(second.out().startsWith("it  healthy"), second.out());
    }

    @Test
    void anEditOfTheRulesTakesEffectInTheNextPassAndBuildsNothing() throws Exception {
        assertEquals(0, jbang("catalog", "add", "--force", "--name", "edited", CHECKOUT + "/jbang-catalog.json").exit());
        assertHealed("touch up", jbang("--offline", "watchdog@edited"));
        List<String> built = built();
        assertFalse(built.isEmpty());
        Files.delete(folder.resolve("up"));
        rules("run 'touch up edited'");
        assertHealed("ran 'touch up edited'", jbang("--offline", "watchdog@edited"));
        assertEquals(built, built());
    }

    /** JBang keeps the archive when it builds the jar anew, as each week's `--fresh` does; Java would ignore it for ever. */
    @Test
    void anArchiveOfClassesThatIsOlderThanItsJarIsMadeAnew() throws Exception {
        assertEquals(0, jbang("catalog", "add", "--force", "--name", "archived", CHECKOUT + "/jbang-catalog.json").exit());
        assertHealed("touch up", jbang("--offline", "watchdog@archived"));
        Path archive = cached("watchdog.jsa"), jar = cached("watchdog.jar");
        FileTime later = FileTime.from(Files.getLastModifiedTime(archive).toInstant().plusSeconds(2));
        EdgeWorld.await("a later second", () -> later.toInstant().isBefore(java.time.Instant.now()));
        Files.setLastModifiedTime(jar, later);
        assertEquals(0, jbang("--offline", "watchdog@archived").exit());
        assertFalse(Files.exists(archive), "the old archive is still there");
        assertEquals(0, jbang("--offline", "watchdog@archived").exit());
        assertTrue(Files.getLastModifiedTime(archive).compareTo(later) >= 0);
    }

    private static Path cached(String name) throws IOException {
        try (Stream<Path> files = Files.walk(jbang.resolve("cache"))) {
            return files.filter(file -> file.endsWith(name) && Files.isRegularFile(file)).findFirst().orElseThrow();
        }
    }

    /** The catalog's server is gone and all that JBang keeps has expired: that is when a watchdog has to run. */
    @Test
    void aCatalogFromTheWebRunsOfflineWhenItsServerIsGoneAndTheCacheIsOld() throws Exception {
        HttpServer web = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        web.createContext("/", exchange -> {
            Path file = CHECKOUT.resolve(exchange.getRequestURI().getPath().substring(1));
            byte[] body = Files.isRegularFile(file) ? Files.readAllBytes(file) : new byte[0];
            exchange.sendResponseHeaders(Files.isRegularFile(file) ? 200 : 404, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        web.start();
        String address = "http://127.0.0.1:" + web.getAddress().getPort() + "/";
        try {
            assertEquals(0, jbang("trust", "add", address).exit());
            Run added = jbang("catalog", "add", "--force", "--name", "web", address + "jbang-catalog.json");
            assertEquals(0, added.exit(), added.err());
            Run installed = jbang("watchdog@web", "--version");
            assertEquals(0, installed.exit(), installed.err());
        } finally {
            web.stop(0);
        }
        age(jbang.resolve("cache"));
        assertHealed("touch up", jbang("--offline", "watchdog@web"));
        Run second = jbang("--offline", "watchdog@web");
        assertTrue(second.out().startsWith("it  healthy"), second.out() + second.err());
    }

    /** What the README promises on its first lines. */
    @Test
    void theDemoOfACleanCloneHealsAndHealsAgain() throws Exception {
        assumeTrue(Files.exists(CHECKOUT.resolve(".git")), "this is no git checkout");
        assumeTrue(free(DEMO_PORT), "the demo's port " + DEMO_PORT + " is taken");
        Path clone = folder.resolve("clone");
        assertEquals(0, run(folder, List.of("git", "clone", "-q", CHECKOUT.toString(), clone.toString())).exit());
        try {
            Run first = run(clone, List.of("./jbangw", "demo"));
            assertEquals(0, first.exit(), first.out() + first.err());
            assertTrue(first.out().startsWith("demo  healed"), first.out());
            long pid = demo();
            Run second = run(clone, List.of("./jbangw", "demo"));
            assertEquals(0, second.exit(), second.out() + second.err());
            assertTrue(second.out().startsWith("demo  healthy"), second.out());
            assertEquals(pid, demo());
            ProcessHandle.of(pid).orElseThrow().destroyForcibly();
            EdgeWorld.await("the demo to be gone", () -> free(DEMO_PORT));
            Run third = run(clone, List.of("./jbangw", "demo"));
            assertEquals(0, third.exit(), third.out() + third.err());
            assertTrue(third.out().startsWith("demo  healed"), third.out());
            assertNotEquals(pid, demo());
        } finally {
            if (!free(DEMO_PORT)) ProcessHandle.of(demo()).ifPresent(ProcessHandle::destroyForcibly);
        }
    }

    private void rules(String remedy) throws IOException {
        Files.writeString(folder.resolve("rules.groovy"), """
            watch('it') {
                command 'test -e up'
                attempts 1
                restart { %s }
            }
            """.formatted(remedy));
    }

    private static void assertHealed(String words, Run pass) {
        assertEquals(0, pass.exit(), pass.out() + pass.err());
        assertTrue(pass.out().startsWith("it  healed") && pass.out().contains(words), pass.out());
    }

    private Run jbang(String... words) throws Exception {
        return run(folder, Stream.concat(Stream.of(CHECKOUT + "/jbangw"), Stream.of(words)).toList());
    }

    /** In a home of its own, but with the JBang that jbangw has fetched before. Java looks for Maven's folder by itself. */
    private Run run(Path where, List<String> words) throws Exception {
        Path out = Files.createTempFile(folder, "out", ""), err = Files.createTempFile(folder, "err", "");
        var builder = new ProcessBuilder(words).directory(where.toFile());
        builder.redirectOutput(out.toFile()).redirectError(err.toFile());
        String home = System.getenv("HOME");
        builder.environment().putIfAbsent("XDG_CACHE_HOME", home + "/.cache");
        builder.environment().put("HOME", folder.toString());
        builder.environment().put("JBANG_DIR", jbang.toString());
        builder.environment().remove("XDG_STATE_HOME");
        int exit = builder.start().waitFor();
        return new Run(exit, Files.readString(out), Files.readString(err));
    }

    /** Every jar that JBang has made of watchdog.java, with the time at which it was written. */
    private static List<String> built() throws IOException {
        try (var files = Files.walk(jbang.resolve("cache/jars"))) {
            return files.filter(file -> file.toString().endsWith(".jar"))
                .map(file -> file + " " + file.toFile().lastModified()).sorted().toList();
        }
    }

    private static void age(Path cache) throws IOException {
        try (var files = Files.walk(cache)) {
            for (Path file : files.toList()) {
                FileTime then = FileTime.from(Files.getLastModifiedTime(file).toInstant().minus(MONTH));
                Files.setLastModifiedTime(file, then);
            }
        }
    }

    /** The number of the demo's process, which it says itself. */
    private static long demo() throws Exception {
        String said = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + DEMO_PORT + "/")).build(),
            BodyHandlers.ofString()).body();
        Matcher number = Pattern.compile("process (\\d+)").matcher(said);
        assertTrue(number.find(), said);
        return Long.parseLong(number.group(1));
    }

    private static boolean free(int port) {
        try (var socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
            return socket.isBound();
        } catch (IOException taken) {
            return false;
        }
    }
}
