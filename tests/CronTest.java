import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The real cron runs, for a plain user, the line of crontab.example and what `schedule --install` wrote. */
@Order(1)
class CronTest {
    private static final String USER = "watchdog-test", CRON = "/usr/sbin/cron";
    private static final String JAVA = System.getProperty("java.home") + "/bin";
    private static final String PATH = "PATH=" + JAVA + ":/usr/bin:/bin";
    /** A minute until cron's next turn, and more for a busy machine. */
    private static final Duration NEXT_TURN = Duration.ofSeconds(150);

    @TempDir
    private Path temp;
    private TestFolder home;
    private EdgeWorld world;
    private Process cron;
    private boolean userExists;

    @BeforeEach
    void aPlainUserWhoHasInstalledWatchdog() throws Exception {
        assumeTrue("root".equals(System.getProperty("user.name")), "only root can run cron");
        assumeTrue(Files.exists(Path.of(CRON)) && Files.exists(Path.of("/usr/bin/setpriv")),
            "cron or setpriv is not installed");
        Files.setPosixFilePermissions(temp, PosixFilePermissions.fromString("rwxr-xr-x"));
        home = new TestFolder(Files.createDirectory(temp.toRealPath().resolve("home")));
        createUser();
        installJBang();
        world = EdgeWorld.open(EdgeWorld.Kind.SCRIPT, "cron-tunnel");
        Files.createDirectories(home.folder.resolve(".config/watchdog"));
        home.file(".config/watchdog/rules.groovy", """
            path '%s'
            watch('plex') {
                url '%s/identity'
                healthy { body.contains('machineIdentifier') }
                restart { stop 'cron-tunnel tunnel run'; start 'cron-tunnel tunnel run' }
            }
            """.formatted(world.bin(), world.url()));
        Files.createDirectory(home.folder.resolve("100% mine"));
        home.file("100% mine/rules.groovy", """
            watch('it') { command 'test -e up'; attempts 1; restart { sh 'touch up' } }
            """);
        run("find", home.folder.toString(), "-type", "d", "-exec", "chown", USER, "{}", "+").exits(0);
        asUser("checkout/jbangw catalog add --name catalog checkout/jbang-catalog.json").exits(0);
        asUser("checkout/jbangw --offline watchdog@catalog").exits(0);
        world.awaitConnected();
    }

    private void createUser() throws Exception {
        run("userdel", USER);   // of a run that was killed
        userExists = run("useradd", "--no-create-home", "--home-dir", home.folder.toString(),
            "--shell", "/bin/sh", USER).exit() == 0;
        assumeTrue(userExists, "cannot create a user");
        assumeTrue(asUser(JAVA + "/java -version").exit() == 0, "a plain user cannot read " + JAVA);
    }

    private void installJBang() throws Exception {
        Path checkout = Files.createDirectory(home.folder.resolve("checkout"));
        run("cp", "-r", "watchdog.java", "docs", "tools", "jbang-catalog.json", "jbangw", checkout.toString())
            .exits(0);
        Path jar = jbangJar();
        Path cache = Files.createDirectories(home.folder.resolve(".cache/watchdog"));
        Files.copy(jar, cache.resolve(jar.getFileName()));
        // Links instead of copies where possible; root owns the files, and they are only read.
        Path repository = Files.createDirectory(home.folder.resolve(".m2")).resolve("repository");
        if (run("cp", "-rl", mavenRepository().toString(), repository.toString()).exit() != 0)
            run("cp", "-r", mavenRepository().toString(), repository.toString()).exits(0);
    }

    @AfterEach
    void theUserIsGone() throws Exception {
        if (userExists) run("crontab", "-u", USER, "-r");
        if (cron != null) {
            cron.descendants().forEach(ProcessHandle::destroyForcibly);
            cron.destroyForcibly().waitFor();
        }
        if (world != null) world.close();
        if (userExists) run("userdel", USER).exits(0);
    }

    @Test
    void aTunnelThatDiesIsBackWithinTheMinuteAndCronsJobsEnd() throws Exception {
        run("crontab", "-u", USER, crontab().toString()).exits(0);
        asUser("checkout/jbangw schedule@catalog --install --every 1m --rules '100% mine/rules.groovy'")
            .exits(0);
        world.killDaemons();
        cron = new ProcessBuilder(CRON, "-f").redirectErrorStream(true)
            .redirectOutput(temp.resolve("cron.log").toFile()).start();
        String first = nextPass(1);
        assertTrue(first.startsWith("plex  healed") && first.contains("started cron-tunnel (pid "), first);
        assertTrue(cron.isAlive(), "another cron daemon runs: " + Files.readString(temp.resolve("cron.log")));
        List<Long> daemons = world.daemons();
        assertEquals(1, daemons.size());
        assertEquals(USER, ProcessHandle.of(daemons.get(0)).orElseThrow().info().user().orElse(""));
        Path up = home.folder.resolve("100% mine/up");
        Wait.until("the installed schedule", NEXT_TURN, () -> Files.exists(up));
        assertTrue(nextPass(2).startsWith("plex  healthy"), printed()::toString);
        assertEquals(daemons, world.daemons());
        Wait.until("cron's jobs to have ended", () -> cron.descendants().findAny().isEmpty());
        assertFalse(Files.exists(home.folder.resolve(".config/watchdog/rules.class")));
    }

    private String nextPass(int number) {
        Wait.until("pass " + number, NEXT_TURN, () -> printed().size() >= number);
        return printed().get(number - 1);
    }

    private List<String> printed() { return home.lines("printed"); }

    /** Its settings and its line for every five minutes; the minutes, the folders and the output differ. */
    private Path crontab() throws IOException {
        List<String> lines = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("crontab.example"))) {
            if (line.startsWith("JBANG=")) lines.add("JBANG=" + home.folder + "/checkout/jbangw");
            else if (line.startsWith("PATH=")) lines.add(PATH);
            else if (line.matches("[A-Z_]+=.*")) lines.add(line);
            if (line.startsWith("*/5 ")) lines.addAll(twiceAMinute(line));
        }
        assertTrue(lines.stream().anyMatch(line -> line.startsWith("* * * * * ")), lines.toString());
        return Files.write(temp.resolve("crontab"), lines);
    }

    /** The second pass comes half a minute later, because cron's next turn would cost another minute. */
    private static List<String> twiceAMinute(String line) {
        assertEquals("*/5 * * * * $JBANG --offline watchdog@catalog --quiet", line);
        String pass = line.replace("*/5 ", "* ").replace(" --quiet", "") + " >>$HOME/printed 2>&1";
        return List.of(pass, pass.replace("* * * * * ", "* * * * * sleep 30; "));
    }

    private Run asUser(String command) throws Exception {
        return run("setpriv", "--reuid=" + USER, "--regid=" + USER, "--init-groups", "env", "-i",
            "HOME=" + home.folder, PATH, "LC_ALL=C.UTF-8", "sh", "-c", "cd && " + command);
    }

    private static Run run(String... words) throws Exception { return Run.of(new ProcessBuilder(words)); }

    /** Where Maven keeps what the tests themselves run with. */
    private static Path mavenRepository() {
        String jar = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
            .filter(entry -> entry.contains("/info/picocli/")).findFirst().orElseThrow();
        return Path.of(jar.substring(0, jar.indexOf("/info/picocli/")));
    }

    private static Path jbangJar() {
        String cache = System.getenv().getOrDefault("XDG_CACHE_HOME", System.getenv("HOME") + "/.cache");
        try (var files = Files.newDirectoryStream(Path.of(cache, "watchdog"), "*-all.jar")) {
            return files.iterator().next();
        } catch (IOException e) {
            return Assumptions.abort("no jbangw has fetched JBang yet: " + e.getMessage());
        }
    }
}
