import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The real cron daemon runs crontab.example's line for a plain user who has a home, Java, and what JBang has fetched. */
class CronTest {
    private static final String USER = "watchdog-test", CRON = "/usr/sbin/cron";
    private static final String JAVA = System.getProperty("java.home") + "/bin";

    @TempDir
    private Path temp;
    private Path home;
    private EdgeWorld world;
    private Process cron;
    private boolean user;

    @BeforeEach
    void aPlainUserWhoHasInstalledWatchdog() throws Exception {
        assumeTrue("root".equals(System.getProperty("user.name")), "only root can run cron");
        assumeTrue(Files.exists(Path.of(CRON)) && Files.exists(Path.of("/usr/bin/setpriv")), "cron or setpriv is not installed");
        Files.setPosixFilePermissions(temp, PosixFilePermissions.fromString("rwxr-xr-x"));
        home = Files.createDirectory(temp.toRealPath().resolve("home"));
        ran("userdel", USER);   // of a run that was killed
        user = ran("useradd", "--no-create-home", "--home-dir", home.toString(), "--shell", "/bin/sh", USER) == 0;
        assumeTrue(user, "cannot create a user");
        assumeTrue(asUser(JAVA + "/java -version 2>/dev/null") == 0, "a plain user cannot read " + JAVA);
        Path checkout = Files.createDirectory(home.resolve("checkout"));
        for (String file : List.of("watchdog.java", "jbang-catalog.json", "jbangw"))
            Files.copy(Path.of(file), checkout.resolve(file), java.nio.file.StandardCopyOption.COPY_ATTRIBUTES);
        Path cached = jbangJar();
        Path cache = Files.createDirectories(home.resolve(".cache/watchdog"));
        Files.copy(cached, cache.resolve(cached.getFileName()));
        // No second copy where a link will do; the files belong to root then, and are only read.
        Files.createDirectory(home.resolve(".m2"));
        if (ran("cp", "-rl", repository().toString(), home + "/.m2/repository") != 0)
            tool("cp", "-r", repository().toString(), home + "/.m2/");
        world = EdgeWorld.open(EdgeWorld.Kind.SCRIPT);
        Files.writeString(Files.createDirectory(home.resolve("watchdog")).resolve("rules.groovy"), """
            path '%s'
            watch('plex') {
                url '%s/identity'
                healthy { body.contains('machineIdentifier') }
                restart { stop 'cloudflared tunnel run'; start 'cloudflared tunnel run' }
            }
            """.formatted(world.bin(), world.url()));
        tool("find", home.toString(), "-type", "d", "-exec", "chown", USER, "{}", "+");
        installs(checkout + "/jbangw catalog add --name catalog " + checkout + "/jbang-catalog.json");
        installs(checkout + "/jbangw --offline watchdog@catalog --rules watchdog/rules.groovy");
        world.awaitConnected();
    }

    @AfterEach
    void theUserIsGone() throws Exception {
        if (user) ran("crontab", "-u", USER, "-r");
        if (cron != null) {
            cron.descendants().forEach(ProcessHandle::destroyForcibly);
            cron.destroyForcibly().waitFor();
        }
        if (world != null) world.close();
        if (user) tool("userdel", USER);
    }

    @Test
    void aTunnelThatDiesIsBackWithinTheMinuteAndCronHasNothingLeftToWaitFor() throws Exception {
        crontab();
        world.killDaemons();
        cron = new ProcessBuilder(CRON, "-f").redirectErrorStream(true).redirectOutput(temp.resolve("cron.log").toFile()).start();
        Path said = home.resolve("said");
        await("cron to run a pass", () -> Files.exists(said) && lines(said).size() >= 1);
        assertTrue(lines(said).get(0).matches("plex  healed .* no process runs 'cloudflared tunnel run', so nothing was stopped; started cloudflared \\(pid \\d+\\)"), lines(said).toString());
        EdgeWorld.await("cron's job to have ended", () -> cron.descendants().findAny().isEmpty());
        assertTrue(cron.isAlive(), "another cron daemon runs: " + Files.readString(temp.resolve("cron.log")));
        List<Long> daemons = world.daemons();
        assertEquals(1, daemons.size());
        assertEquals(USER, ProcessHandle.of(daemons.get(0)).orElseThrow().info().user().orElse(""));
        await("the next pass", () -> lines(said).size() >= 2);
        assertTrue(lines(said).get(1).startsWith("plex  healthy"), lines(said).toString());
        assertEquals(daemons, world.daemons());
        assertFalse(Files.exists(home.resolve("watchdog/rules.class")));
    }

    /** Its line for every five minutes as it stands, but for the minutes, the folders, and what it prints. */
    private void crontab() throws Exception {
        List<String> shipped = Files.readAllLines(Path.of("crontab.example"));
        String line = shipped.stream().filter(l -> l.startsWith("*/5 ")).findFirst().orElseThrow();
        assertTrue(line.contains("/usr/local/bin/jbang --offline watchdog@catalog --quiet --rules $HOME/watchdog/rules.groovy"), line);
        List<String> here = shipped.stream().filter(l -> l.matches("[A-Z_]+=.*")).map(l -> l.startsWith("PATH=") ? "PATH=" + JAVA + ":/usr/bin:/bin" : l).toList();
        String everyMinute = line.replace("*/5 ", "* ").replace("/usr/local/bin/jbang", home + "/checkout/jbangw").replace(" --quiet", "") + " >>$HOME/said 2>&1";
        Path file = Files.writeString(temp.resolve("crontab"), String.join("\n", here) + "\n" + everyMinute + "\n");
        tool("crontab", "-u", USER, file.toString());
    }

    private void installs(String command) throws Exception {
        Path said = home.resolve("installed");
        int exit = asUser("{ " + command + "; } >>installed 2>&1");
        assertEquals(0, exit, Files.readString(said));
    }

    private int asUser(String command) throws Exception {
        return ran("setpriv", "--reuid=" + USER, "--regid=" + USER, "--init-groups", "env", "-i", "HOME=" + home, "PATH=" + JAVA + ":/usr/bin:/bin",
            "LC_ALL=C.UTF-8", "sh", "-c", "cd && " + command);
    }

    private static int ran(String... words) throws Exception {
        return new ProcessBuilder(words).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
    }

    private static void tool(String... words) throws Exception {
        assertEquals(0, ran(words), String.join(" ", words));
    }

    /** Where Maven keeps what the tests themselves run with. */
    private static Path repository() {
        String jar = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
            .filter(entry -> entry.contains("/info/picocli/")).findFirst().orElseThrow();
        return Path.of(jar.substring(0, jar.indexOf("/info/picocli/")));
    }

    private static Path jbangJar() {
        String cache = System.getenv("XDG_CACHE_HOME");
        Path folder = (cache == null ? Path.of(System.getenv("HOME"), ".cache") : Path.of(cache)).resolve("watchdog");
        try (var files = Files.list(folder)) {
            return files.filter(file -> file.toString().endsWith("-all.jar")).findFirst().orElseThrow();
        } catch (IOException e) {
            return org.junit.jupiter.api.Assumptions.abort("no jbangw has fetched JBang yet: " + e.getMessage());
        }
    }

    /** A minute until cron's next turn, and a slow machine's half. */
    private static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(100);
        for (; !condition.getAsBoolean(); Thread.sleep(100))
            if (System.nanoTime() > deadline) throw new AssertionError("waited 100 s for " + what);
    }

    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }
}
