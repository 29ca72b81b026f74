import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What watchdog was written for: the shipped rules.groovy, and a tunnel that fails in each known way. */
@Order(2)
class TunnelTest {
    private EdgeWorld world;
    private TestFolder home;

    private final List<String> messages = new CopyOnWriteArrayList<>();
    private final List<List<Long>> daemonsAtMessage = new CopyOnWriteArrayList<>();

    /** Stands in for Pushover, and notes for each message which daemons ran when it came. */
    private final TestServer pushover = new TestServer((path, body) -> {
        messages.add(body);
        daemonsAtMessage.add(world.daemons());
        world.force(null, null);
        return new TestServer.Answer(200, "{\"status\":1}");
    });

    @AfterEach
    void close() {
        pushover.close();
        if (world != null) world.close();
    }

    @ParameterizedTest
    @EnumSource
    void aTunnelThatDiedIsStarted(EdgeWorld.Kind kind) throws IOException {
        openWithShippedRules(kind);
        connect();
        world.killDaemons();
        assertHealed(530, "started cloudflared (pid ");
    }

    @Test
    void aTunnelThatNeverRanIsStarted() throws IOException {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        assertHealed(530, "started cloudflared (pid ");
    }

    /** It answers nothing and ignores SIGTERM. */
    @ParameterizedTest
    @EnumSource
    void aTunnelThatHangsIsKilledAndStarted(EdgeWorld.Kind kind) throws IOException {
        openWithShippedRules(kind);
        long hung = connect();
        world.hang();
        assertHealed(530, "killed cloudflared (pid " + hung + ")");
        assertFalse(world.daemons().contains(hung));
        assertEquals(List.of(hung), daemonsAtMessage.get(0));   // the message came before the restart
    }

    /** The edge answers 530 until the first message, because the second daemon would serve. */
    @ParameterizedTest
    @EnumSource
    void ofTwoTunnelsBothAreStoppedAndOneIsStarted(EdgeWorld.Kind kind) throws IOException {
        openWithShippedRules(kind);
        List<Long> both = List.of(world.startDaemon(), world.startDaemon());
        world.awaitConnected();
        world.force(530, "error code: 1033");
        assertHealed(530, "stopped cloudflared (");
        assertTrue(both.stream().noneMatch(world.daemons()::contains));
    }

    @Test
    void aTunnelThatIsSlowToConnectIsWaitedFor() throws IOException {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        world.slowStart(3);
        assertHealed(530, "started cloudflared (pid ");
    }

    @Test
    void aTunnelThatRefusesToStartIsReportedAndTheNextPassStartsIt() throws IOException {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        world.refuseToStart();
        home.watchdog().exits(1).says("cloudflared ended with exit code 1: ");
        assertEquals(List.of(), world.daemons());
        assertTrue(home.watchdog().exits(0).line("plex").contains("healed"));
        assertMessages("plex is down", "plex is still down", "plex is healthy again");
    }

    @Test
    void aPlexThatIsDownIsRestartedAndTheTunnelIsNotTouched() throws Exception {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        long daemon = connect();
        world.plexStop();
        home.script("bin/sudo", "printf '%s\\n' \"$*\" >'" + world.folder() + "/sudo.words'");
        var systemd = new Thread(() -> {
            Wait.until("the restart", () -> !home.lines("sudo.words").isEmpty());
            world.plexStart();
        });
        systemd.start();
        assertHealed(502, "'sudo -n systemctl restart plexmediaserver'");
        systemd.join();
        assertEquals(List.of("-n systemctl restart plexmediaserver"), home.lines("sudo.words"));
        assertEquals(List.of(daemon), world.daemons());
    }

    @Test
    void whileThisMachineIsOfflineNothingIsRestartedAndNobodyIsNotified() throws IOException {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        long daemon = connect();
        world.edgeStop();
        Run pass = home.watchdog().exits(1);
        assertTrue(pass.line("internet").contains("unhealthy"), pass.out());
        assertTrue(pass.line("plex").contains("inconclusive"), pass.out());
        assertEquals(List.of(daemon), world.daemons());
        assertMessages();
    }

    @Test
    void anAnswerThatNoRestartCouldChangeIsOnlyReported() throws IOException {
        openWithShippedRules(EdgeWorld.Kind.SCRIPT);
        long daemon = connect();
        world.force(403, "Forbidden");
        Run pass = home.watchdog().exits(1);
        assertTrue(pass.line("plex").contains("403"), pass.out());
        assertEquals(List.of(daemon), world.daemons());
        assertMessages("plex is down");
    }

    /** The rules that the README begins with, but for the page: the login page also counts as healthy. */
    @ParameterizedTest
    @EnumSource
    void sixLinesOfRulesHeal(EdgeWorld.Kind kind) {
        world = EdgeWorld.open(kind);
        home = new TestFolder(world.folder()).rules("""
            path '%s'
            watch('plex') {
                url '%s'
                healthy { body.contains('401 Unauthorized') }
                restart { stop 'cloudflared tunnel run'; start 'cloudflared tunnel run' }
                notify command('./hook.sh')
            }
            """.formatted(world.bin(), world.url()));
        home.script("hook.sh", "echo \"$WATCHDOG_EVENT\" >>events");
        assertTrue(home.watchdog().exits(0).line("plex").startsWith("plex  healed"));
        assertEquals(1, world.daemons().size());
        assertEquals(List.of("down", "healed"), home.lines("events"));
        assertTrue(home.watchdog().exits(0).line("plex").startsWith("plex  healthy"));
    }

    // ---- helpers ------------------------------------------------------------------------------------

    /** The file as it is shipped, with the addresses of this world; each of them must stand in it. */
    private void openWithShippedRules(EdgeWorld.Kind kind) throws IOException {
        world = EdgeWorld.open(kind);
        int port = URI.create(world.url()).getPort();
        String hook = ", url: '" + pushover.url().replaceAll("/$", "") + "')";
        String rules = Files.readString(Path.of("rules.groovy"));
        rules = replace(rules, "https://plex.example.com", world.url());
        rules = replace(rules, "tcp '1.1.1.1:443'", "tcp '127.0.0.1:" + port + "'; attempts 1");
        rules = replace(rules, "user: secret('PUSHOVER_USER'))", "user: secret('PUSHOVER_USER')" + hook);
        home = new TestFolder(world.folder()).rules("path '" + world.bin() + "'\n" + rules)
            .env("PUSHOVER_TOKEN", "a".repeat(30)).env("PUSHOVER_USER", "u".repeat(30));
    }

    private static String replace(String rules, String shipped, String here) {
        assertTrue(rules.contains(shipped), "rules.groovy no longer contains " + shipped);
        return rules.replace(shipped, here);
    }

    private long connect() {
        long daemon = world.startDaemon();
        world.awaitConnected();
        return daemon;
    }

    /** Healed and reported in one pass, with one tunnel; the next pass has nothing to do. */
    private void assertHealed(int status, String words) {
        String line = home.watchdog().exits(0).line("plex");
        assertTrue(line.contains("healed"), line);
        assertTrue(line.contains("" + status) && line.contains(words), line);
        List<Long> daemons = world.daemons();
        assertEquals(1, daemons.size());
        assertTrue(home.watchdog().exits(0).line("plex").contains("healthy"));
        assertEquals(daemons, world.daemons());
        assertMessages("plex is down", "plex is healthy again");
    }

    private void assertMessages(String... titles) {
        assertEquals(titles.length, messages.size(), messages.toString());
        for (int n = 0; n < titles.length; n++)
            assertTrue(messages.get(n).contains(titles[n]), messages.toString());
    }
}
