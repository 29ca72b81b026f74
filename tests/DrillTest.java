import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * `watchdog drill`: a service is stopped on purpose, noticed, healed by a normal pass, and the story is told.
 */
class DrillTest {
    @TempDir Path folder;
    /** Keeps other tests from the port; it does not listen, so the service can. */
    private final Socket held = new Socket();
    private int port;

    /** A daemon of this test only: it ends when its folder's file `stop` says so, or by SIGTERM. */
    private TestFolder service(String more) throws IOException {
        held.setReuseAddress(true);
        held.bind(new InetSocketAddress("127.0.0.1", 0));
        port = held.getLocalPort();
        TestFolder home = new TestFolder(folder).file("drilled.pl", """
            use IO::Socket::INET;
            my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => %d, \
            Listen => 5, ReuseAddr => 1) or die;
            alarm 120;
            while (my $c = $s->accept) { close $c }
            """.formatted(port));
        return home.rules("""
            watch('svc') {
                tcp '127.0.0.1:%d'
                attempts 1
                %s
            }
            """.formatted(port, more));
    }

    private static final String REMEDY = """
        within 10.seconds
        restart {
            stop 'perl drilled.pl'
            start 'perl drilled.pl'
        }""";

    @AfterEach
    void endTheDaemon() throws IOException {
        held.close();
        ProcessHandle.allProcesses()
            .filter(p -> p.info().commandLine().orElse("").endsWith("drilled.pl")
                && folder.equals(p.info().user().isPresent() ? cwd(p) : null))
            .forEach(ProcessHandle::destroyForcibly);
    }

    private static Path cwd(ProcessHandle process) {
        try {
            return java.nio.file.Files.readSymbolicLink(Path.of("/proc/" + process.pid() + "/cwd"));
        } catch (IOException gone) {
            return null;
        }
    }

    @Test
    void aDrillIsMarkedInItsMessagesAndCountsAsNoIncident() throws IOException {
        TestFolder home = service(REMEDY);
        home.script("hear", "echo \"$WATCHDOG_TITLE\" >> heard");
        home.rules("notify command('./hear')\n" + Files.readString(home.folder.resolve("rules.groovy")));
        home.watchdog().exits(0);
        home.watchdog("drill", "svc", "--yes").exits(0);
        assertTrue(home.lines("heard").get(2).startsWith("Drill: svc "), home.lines("heard").toString());
        home.watchdog("status").says("restarts left: 2 of 3");
    }

    @Test
    void aDrillStopsNoticesHealsAndTellsItsTimeline() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        Run drill = home.watchdog("drill", "svc", "--yes");
        assertEquals(0, drill.exit(), drill.toString());
        assertEquals("""
            svc is healthy
            stopped perl (pid N)
            the check noticed
            svc  healed       in T: connection refused by 127.0.0.1:PORT; \
            no process runs 'perl drilled.pl', so nothing was stopped; started perl (pid N)
            svc is healthy again: the drill has passed
            """, drill.out().replaceAll("(?m)^ *[\\d.]+ s  ", "").replaceAll("pid \\d+", "pid N")
            .replaceAll("127.0.0.1:\\d+", "127.0.0.1:PORT").replaceAll("in [\\d.]+ m?s:", "in T:"));
    }

    /** While a pass runs, or for as long as the drill does. */
    @Test
    void aDrillDoesNotBeginBesideAPass() throws IOException {
        TestFolder home = service(REMEDY);
        home.watchdog().exits(0);
        try (var lock = SecureFiles.lock(home.state().resolve("lock"), java.time.Instant.now())) {
            home.watchdog("drill", "svc", "--yes").exits(75).errs("another pass is running");
        }
        assertEquals(0, home.watchdog("check").exit(), "it still runs");
    }

    @Test
    void withoutYesItSaysWhatItWouldStop() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        Run drill = home.watchdog("drill", "svc");
        assertEquals(2, drill.exit());
        assertEquals("watchdog: a drill stops svc on purpose: stop 'perl drilled.pl'; to go on, add --yes\n",
            drill.err());
        assertEquals(0, home.watchdog("check").exit(), "it still runs");
    }

    @Test
    void withoutAStopThereIsNoDrill() throws IOException {
        Run drill = service("restart { start 'perl drilled.pl' }").watchdog("drill", "svc", "--yes");
        assertEquals(2, drill.exit());
        assertEquals("watchdog: svc has no stop in its restart, so a drill cannot stop it\n", drill.err());
    }

    @Test
    void aPausedServiceIsNotDrilledBecauseNothingWouldHealIt() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        home.watchdog("pause", "svc");
        Run drill = home.watchdog("drill", "svc", "--yes");
        assertEquals(2, drill.exit());
        assertEquals("watchdog: svc is paused, so nothing would restart it; end the pause with: watchdog "
            + "resume svc\n", drill.err());
        home.watchdog("resume", "svc");
        assertEquals(0, home.watchdog("check").exit(), "it still runs");
    }

    @Test
    void aServiceThatIsDownIsNoBeginningForADrill() throws IOException {
        Run drill = service(REMEDY).watchdog("drill", "svc", "--yes");
        assertEquals(2, drill.exit());
        assertTrue(drill.err().contains("svc is not healthy now; a drill needs a healthy service"),
            drill.err());
    }

    @Test
    void aCheckThatTakesLongerThanWithinNoticesToo() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        home.file("slow.pl", """
            use IO::Socket::INET;
            select undef, undef, undef, 0.4; # seconds
            IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => %d) or die;
            """.formatted(port)).rules("""
            watch('svc') {
                command 'perl slow.pl'
                attempts 1
                %s
            }
            """.formatted(REMEDY.replace("10.seconds", "200.milliseconds")));
        Run drill = home.watchdog("drill", "svc", "--yes");
        assertEquals(0, drill.exit(), drill.toString());
        assertTrue(drill.out().contains("the check noticed"), drill.out());
    }

    @Test
    void aServiceThatNothingHealsFailsTheDrill() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        home.rules("""
            watch('svc') {
                tcp '127.0.0.1:%d'
                attempts 1
                within 2.seconds
                restart { stop 'perl drilled.pl' }
            }
            """.formatted(port));
        Run drill = home.watchdog("drill", "svc", "--yes");
        assertEquals(1, drill.exit(), drill.toString());
        assertTrue(drill.out().contains("svc was NOT restarted: the drill has failed"), drill.out());
    }

    @Test
    void aServiceWhoseCheckNoticesNothingIsStartedAgain() throws IOException {
        TestFolder home = service(REMEDY);
        assertEquals(0, home.watchdog().exit());
        home.rules("""
            watch('svc') {
                command 'true'
                within 300.milliseconds
                %s
            }
            """.formatted(REMEDY.replaceFirst("within.*", "")));
        Run drill = home.watchdog("drill", "svc", "--yes");
        assertEquals(1, drill.exit(), drill.toString());
        assertTrue(drill.out().contains("started perl (pid "), drill.out());
    }
}
