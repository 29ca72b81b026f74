import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import okio.ByteString;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The job that watchdog was made for: the shipped rules.groovy against a tunnel that dies in every way it knows. */
class TunnelTest {
    private EdgeWorld world;
    private Run.Desk desk;

    /** Stands in for Pushover, and notes for each message which daemons ran when it came. */
    private final MockWebServer pushover = new MockWebServer();
    private final List<String> told = new CopyOnWriteArrayList<>();
    private final List<List<Long>> daemonsWhenTold = new CopyOnWriteArrayList<>();

    @BeforeEach
    void pushoverListens() throws IOException {
        pushover.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                ByteString body = request.getBody();
                told.add(body == null ? "" : body.utf8());
                daemonsWhenTold.add(world.daemons());
                world.force(null, null);
                return new MockResponse.Builder().body("{\"status\":1}").build();
            }
        });
        pushover.start();
    }

    @AfterEach
    void endTheWorld() {
        pushover.close();
        if (world != null) world.close();
    }

    @ParameterizedTest
    @EnumSource
    void aTunnelThatDiedIsStarted(EdgeWorld.Kind kind) throws IOException {
        shipped(kind);
        world.startDaemon();
        world.awaitConnected();
        world.killDaemons();
        assertHealed("expected status == 200, but status was 530; no process runs 'cloudflared tunnel run', so nothing was stopped; started cloudflared (pid ");
    }

    @Test
    void aTunnelThatNeverRanIsStarted() throws IOException {
        shipped(EdgeWorld.Kind.SCRIPT);
        assertHealed("no process runs 'cloudflared tunnel run', so nothing was stopped; started cloudflared (pid ");
    }

    /** It answers nothing and ignores SIGTERM. */
    @ParameterizedTest
    @EnumSource
    void aTunnelThatHangsIsKilledAndStarted(EdgeWorld.Kind kind) throws IOException {
        shipped(kind);
        long hung = world.startDaemon();
        world.awaitConnected();
        world.hang();
        assertHealed("killed cloudflared (pid " + hung + "); started cloudflared (pid ");
        assertFalse(world.daemons().contains(hung));
        assertEquals(List.of(hung), daemonsWhenTold.get(0));   // the push came before the restart
    }

    /** The edge lets go of a pair of them; until the push, as it has to be seen. */
    @ParameterizedTest
    @EnumSource
    void ofTwoTunnelsOneIsLeft(EdgeWorld.Kind kind) throws IOException {
        shipped(kind);
        List<Long> both = List.of(world.startDaemon(), world.startDaemon());
        world.awaitConnected();
        world.force(530, "error code: 1033");
        assertHealed("stopped cloudflared (");
        assertEquals(1, world.daemons().size());
        assertTrue(both.stream().noneMatch(world.daemons()::contains));
    }

    @Test
    void aTunnelThatIsSlowToConnectIsWaitedFor() throws IOException {
        shipped(EdgeWorld.Kind.SCRIPT);
        world.slowStart(3);
        assertHealed("started cloudflared (pid ");
    }

    @Test
    void aTunnelThatRefusesToStartIsToldAndTheNextPassStartsIt() throws IOException {
        shipped(EdgeWorld.Kind.SCRIPT);
        world.refuseToStart();
        Run first = desk.watchdog();
        assertEquals(1, first.exit(), first.out() + first.err());
        assertTrue(first.out().contains("cloudflared ended with exit code 1; start it with log: 'file' to see why"), first.out());
        assertEquals(List.of(), world.daemons());
        Run second = desk.watchdog();
        assertEquals(0, second.exit(), second.out() + second.err());
        assertTrue(lineOf(second, "plex").contains("healed"), second.out());
        assertEquals(3, told.size(), told.toString());
        assertTold(0, "plex is down");
        assertTold(1, "plex is still down");
        assertTold(2, "plex is healthy again");
    }

    @Test
    void aPlexThatIsDownIsRestartedAndTheTunnelIsNotTouched() throws Exception {
        shipped(EdgeWorld.Kind.SCRIPT);
        long daemon = world.startDaemon();
        world.awaitConnected();
        world.plexStop();
        Path sudo = Files.writeString(world.bin().resolve("sudo"), "#!/bin/sh\nprintf '%s\\n' \"$*\" >\"" + world.folder() + "/asked\"\n");
        Files.setPosixFilePermissions(sudo, PosixFilePermissions.fromString("rwxr-xr-x"));
        var systemd = new Thread(() -> {
            EdgeWorld.await("the remedy", () -> Files.exists(world.folder().resolve("asked")));
            world.plexStart();
        });
        systemd.start();
        assertHealed("expected status == 200, but status was 502; ran 'sudo -n systemctl restart plexmediaserver'");
        systemd.join();
        assertEquals("-n systemctl restart plexmediaserver\n", Files.readString(world.folder().resolve("asked")));
        assertEquals(List.of(daemon), world.daemons());
    }

    @Test
    void whileWeAreOfflineNothingIsTouchedAndNobodyIsTold() throws IOException {
        shipped(EdgeWorld.Kind.SCRIPT);
        long daemon = world.startDaemon();
        world.awaitConnected();
        world.edgeStop();
        Run pass = desk.watchdog();
        assertEquals(1, pass.exit(), pass.out() + pass.err());
        assertTrue(lineOf(pass, "internet").contains("unhealthy"), pass.out());
        assertTrue(lineOf(pass, "plex").contains("inconclusive needs internet, which is unhealthy"), pass.out());
        assertEquals(List.of(daemon), world.daemons());
        assertEquals(List.of(), told);
    }

    @Test
    void anAnswerThatNoRestartCouldMendIsToldOnly() throws IOException {
        shipped(EdgeWorld.Kind.SCRIPT);
        long daemon = world.startDaemon();
        world.awaitConnected();
        world.force(403, "Forbidden");
        Run pass = desk.watchdog();
        assertEquals(1, pass.exit(), pass.out() + pass.err());
        assertTrue(lineOf(pass, "plex").contains("expected status == 200, but status was 403; your rules say not to restart for this cause"), pass.out());
        assertEquals(List.of(daemon), world.daemons());
        assertEquals(1, told.size(), told.toString());
        assertTold(0, "plex is down");
    }

    /** What the five shell scripts did: any page that says so is a Plex that lives. */
    @ParameterizedTest
    @EnumSource
    void theOriginalSixLinesHeal(EdgeWorld.Kind kind) {
        world = EdgeWorld.open(kind);
        desk = new Run.Desk(world.folder()).rules("""
            path '%s'
            watch('plex') {
                url '%s'
                healthy { body.contains('401 Unauthorized') }
                restart { stop 'cloudflared tunnel run'; start 'cloudflared tunnel run' }
                notify command('./told.sh')
            }
            """.formatted(world.bin(), world.url()));
        desk.file("told.sh", "#!/bin/sh\necho \"$WATCHDOG_EVENT $1\" >>told\n");
        assertTrue(world.folder().resolve("told.sh").toFile().setExecutable(true));
        Run pass = desk.watchdog();
        assertEquals(0, pass.exit(), pass.out() + pass.err());
        assertTrue(pass.out().startsWith("plex  healed"), pass.out());
        assertEquals(1, world.daemons().size());
        List<String> kinds = lines(world.folder().resolve("told")).stream().filter(line -> line.matches("(down|healed) .*"))
            .map(line -> line.substring(0, line.indexOf(' '))).toList();
        assertEquals(List.of("down", "healed"), kinds);
        Run second = desk.watchdog();
        assertEquals(0, second.exit(), second.out() + second.err());
        assertTrue(second.out().startsWith("plex  healthy"), second.out());
    }

    /** The file as it is shipped, with the addresses of this world; that each of them stands in it is part of the law. */
    private void shipped(EdgeWorld.Kind kind) throws IOException {
        world = EdgeWorld.open(kind);
        String rules = Files.readString(Path.of("rules.groovy"));
        rules = with(rules, "https://plex.example.com", world.url());
        rules = with(rules, "path '/usr/local/bin', '/opt/homebrew/bin'", "path '" + world.bin() + "'");
        rules = with(rules, "tcp '1.1.1.1:443'", "tcp '127.0.0.1:" + URI.create(world.url()).getPort() + "'; attempts 1");
        rules = with(rules, "user: secret('PUSHOVER_USER'))", "user: secret('PUSHOVER_USER'), url: '"
            + pushover.url("").toString().replaceAll("/$", "") + "')");
        desk = new Run.Desk(world.folder()).rules(rules).env("PUSHOVER_TOKEN", "a-token").env("PUSHOVER_USER", "a-user");
    }

    private static String with(String rules, String shipped, String here) {
        assertTrue(rules.contains(shipped), "rules.groovy has no longer " + shipped);
        return rules.replace(shipped, here);
    }

    /** Healed and told in one pass, with one tunnel; nothing left to do for the next one. */
    private void assertHealed(String words) {
        Run pass = desk.watchdog();
        assertEquals(0, pass.exit(), pass.out() + pass.err());
        assertTrue(lineOf(pass, "plex").contains("healed") && lineOf(pass, "plex").contains(words), pass.out());
        assertEquals(1, world.daemons().size());
        assertTold(0, "plex is down");
        assertTold(1, "plex is healthy again");
        List<Long> daemons = world.daemons();
        Run second = desk.watchdog();
        assertEquals(0, second.exit(), second.out() + second.err());
        assertTrue(lineOf(second, "plex").contains("healthy"), second.out());
        assertEquals(daemons, world.daemons());
        assertEquals(2, told.size(), told.toString());
    }

    private void assertTold(int number, String title) {
        assertTrue(told.size() > number && told.get(number).contains(title), title + " as number " + number + " of " + told);
    }

    private static String lineOf(Run pass, String watch) {
        return pass.out().lines().filter(line -> line.startsWith(watch + " ")).findFirst().orElseThrow(() -> new AssertionError(pass.toString()));
    }

    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }
}
