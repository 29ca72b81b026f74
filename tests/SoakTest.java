import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Outages with random faults and kills. The remedy and the hook write a ledger of their own: no restart may
 * be lost or doubled, and no message lost. tests/soak runs 3,000 passes of it.
 */
class SoakTest {
    private static final int PASSES = Integer.parseInt(System.getenv().getOrDefault("SOAK_PASSES", "24"));
    private static final long SEED = Long.parseLong(System.getenv().getOrDefault("SOAK_SEED", "9"));

    /** A pass whose clock is ahead, so that each outage is an incident of its own. */
    static class Ahead {
        public static void main(String[] args) {
            Environment real = Environment.real();
            Clock clock = Clock.offset(Clock.systemUTC(), Duration.parse(args[0]));
            Environment ahead = new Environment(real.variables(), real.cwd(), clock, real.out(), real.err(),
                false, real.halt());
            System.exit(watchdog.run(ahead, "--quiet"));
        }
    }

    @TempDir private Path temp;
    private TestFolder home;
    private Service plex;
    private final Random random = new Random(SEED);
    private Duration ahead = Duration.ZERO;
    private int passes, kills;

    @BeforeEach void open() throws IOException {
        home = new TestFolder(temp.toRealPath());
        plex = new Service(home.folder, "plex");
        home.script("daemon", "test -e stubborn || touch plex.up; exec sleep 300");
        home.script("hook", """
            if test -e die.hook; then rm die.hook; kill -9 $PPID; exit 1; fi
            test ! -e deaf && echo $WATCHDOG_EVENT >>events""");
        home.rules("""
            notify command('./hook')
            watch('plex') {
                url '%s'
                attempts 1
                within 5.seconds
                limit 1000, per: 1.hour
                restart {
                    %s
                    sh 'echo $PASS >>ledger'
                    stop './daemon'
                    %s
                    start './daemon'
                    %s
                }
            }
            """.formatted(plex.url(), CrashTest.DIE.formatted(1), CrashTest.DIE.formatted(2),
            CrashTest.DIE.formatted(3)));
    }

    @AfterEach void close() {
        CrashTest.daemons(home.folder).forEach(ProcessHandle::destroyForcibly);
        plex.close();
    }

    @Timeout(value = 6, unit = TimeUnit.HOURS) // for 3,000 passes
    @Test void noRestartIsLostOrDoubledAndNoMessageIsLost() throws Exception {
        healthyPass();
        for (int outage = 1; passes < PASSES; outage++) {
            Instant begin = now();
            end(CrashTest.daemons(home.folder));
            for (String file : List.of("plex.up", "ledger", "events")) Files.deleteIfExists(file(file));
            kills = 0;
            for (int faults = random.nextInt(4); faults > 0; faults--) faultyPass();
            for (String file : List.of("stubborn", "deaf", "die.1", "die.2", "die.3", "die.hook"))
                Files.deleteIfExists(file(file));
            healthyPass();
            ahead = ahead.plusHours(2); // then the incident is over
            healthyPass();
            compare("seed " + SEED + ", outage " + outage, begin);
        }
        if (PASSES > 100) System.out.println(passes + " passes, seed " + SEED + ": 0 lost, 0 doubled");
    }

    /** A kill at a place in the remedy or in the hook, or at any time, or something that fails. */
    private void faultyPass() throws Exception {
        switch (random.nextInt(8)) {
            case 0, 1 -> home.file("die." + (1 + random.nextInt(3)), "");
            case 2 -> home.file("die.hook", "");
            case 3 -> home.file("stubborn", "");
            case 4 -> home.file("deaf", "");
            case 5 -> Files.writeString(home.state().resolve("history.jsonl"), "{\0");
            default -> { }
        }
        Process pass = begin();
        boolean anyTime = PASSES > 100 && random.nextInt(3) == 0; // the short form depends on no timing
        if (anyTime && !pass.waitFor(random.nextInt(1500), TimeUnit.MILLISECONDS))
            pass.destroyForcibly();
        if (pass.waitFor() == 128 + 9) kills++;
    }

    private void healthyPass() throws Exception {
        int exit = begin().waitFor();
        assertEquals(0, exit, () -> "seed " + SEED + ", pass " + passes + ": " + home.lines("log"));
    }

    private Process begin() throws IOException {
        passes++;
        ahead = ahead.plusMinutes(15);
        List<String> words = new ArrayList<>(Run.process());
        words.set(words.indexOf("watchdog"), Ahead.class.getName());
        words.add(ahead.toString());
        var builder = new ProcessBuilder(words).directory(home.folder.toFile()).redirectErrorStream(true)
            .redirectOutput(file("log").toFile());
        builder.environment().put("HOME", home.folder.toString());
        builder.environment().put("PASS", "" + passes);
        builder.environment().remove("XDG_STATE_HOME");
        return builder.start();
    }

    /** What the remedy and the hook have written, and what watchdog remembers. */
    @SuppressWarnings("unchecked") private void compare(String when, Instant begin) throws IOException {
        assertTrue(plex.up(), when);
        assertEquals(1, CrashTest.daemons(home.folder).size(), when + ": daemons");
        List<String> ledger = home.lines("ledger"), events = home.lines("events");
        String written = when + ": " + ledger;
        assertEquals(ledger.size(), new HashSet<>(ledger).size(), () -> "doubled: " + written);

        var memory = (Map<String, ?>) new JsonSlurper().parseText(
            Files.readString(home.state().resolve("memory.json")));
        var restarts = (List<Map<String, String>>) ((Map<String, Map<String, ?>>) memory.get("watches"))
            .get("plex").get("restarts");
        long known = restarts.stream().filter(one -> !Instant.parse(one.get("at")).isBefore(begin)).count();
        assertTrue(known >= ledger.size(), () -> "restarts lost: only " + known + ", " + written);
        assertTrue(known <= ledger.size() + kills, () -> "restarts that were not: " + known + ", " + written);

        assertEquals(List.of(), memory.get("outbox"), when);
        String all = when + ": " + events;
        assertTrue(events.contains("healed") || events.contains("recovered"), all);
        for (String kind : new HashSet<>(events))
            assertTrue(Collections.frequency(events, kind) <= 1 + kills, all);
        assertFalse(events.isEmpty(), all);
    }

    private static void end(List<ProcessHandle> daemons) {
        daemons.forEach(ProcessHandle::destroyForcibly);
        Wait.until("the daemons to end", () -> daemons.stream().noneMatch(ProcessHandle::isAlive));
    }

    private Instant now() { return Instant.now().plus(ahead).plusMillis(1); }
    private Path file(String name) { return home.folder.resolve(name); }
}
