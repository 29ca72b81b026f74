import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonSlurper;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;

import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * The policy of watchdog, as tables. A row is a history of passes: what a pass met and, behind the
 * arrow, what it did and reported. A pass is five minutes; `+2h` is time that goes by before it.
 */
class DecideTest {
    private static final Instant START = Instant.parse("2026-03-01T08:00:00Z");
    private static final Duration HOUR = Duration.ofHours(1), HALF_MINUTE = Duration.ofSeconds(30),
        DAY = Duration.ofDays(1);
    private static final RestartPolicy ONCE = new RestartPolicy(1, 3, HOUR, HALF_MINUTE, DAY),
        THIRD = new RestartPolicy(3, 3, HOUR, HALF_MINUTE, DAY),
        PATIENT = new RestartPolicy(1, 3, HOUR, Duration.ofMinutes(12), DAY),
        REMINDING = new RestartPolicy(1, 1, Duration.ofHours(24), HALF_MINUTE, Duration.ofHours(6));

    /**
     * What a pass may meet: `well`; `sick`: unhealthy, and a restart does not help; `cured`: its
     * restart helps; `broken`: a step of it fails; `cut`: the pass is killed in it; `slow`: the
     * deadline of the pass comes first; `dns`: a cause with a remedy of its own, the last; `tls`:
     * a cause without a remedy; `blocked`, `unclear`, `paused`.
     */
    private static final Map<String, Verdict> MET = Map.ofEntries(
        Map.entry("well", new Healthy("200 in 20 ms")), Map.entry("sick", sick("530", 0, 1, 2)),
        Map.entry("cured", sick("530", 0, 1, 2)), Map.entry("broken", sick("530", 0, 1, 2)),
        Map.entry("cut", sick("530", 0, 1, 2)), Map.entry("slow", sick("530", 0, 1, 2)),
        Map.entry("dns", sick("dns", 3)), Map.entry("tls", new Unhealthy("has expired", null,
            List.of(), "a restart does not renew a certificate")),
        Map.entry("blocked", new Inconclusive("needs internet, which is unhealthy", true)),
        Map.entry("unclear", new Inconclusive("could not be evaluated", false)),
        Map.entry("paused", new Paused("paused until it is resumed")));

    private static Unhealthy sick(String status, Integer... remedies) {
        return new Unhealthy("expected status == 200, but status was " + status, null,
            List.of(remedies), "");
    }

    /** A label, a policy, and each pass: what it met -> what it did: what it reported. */
    @TestFactory Stream<DynamicTest> eachPassDoesWhatItsTableSays() {
        return Stream.of(
            row("a healthy service is left alone", ONCE, "well -> nothing", "well -> nothing"),
            row("down is reported, and restarted at once", ONCE,
                "cured -> restart 0: down healed", "well -> nothing"),
            row("below the threshold nothing is restarted and nobody notified", THIRD,
                "sick -> held", "sick -> held", "cured -> restart 0: down healed"),
            row("a threshold of 3 is also reached by 3 of 5 passes", THIRD,
                "sick -> held", "well -> nothing", "sick -> held", "well -> nothing",
                "sick -> restart 0: down still_down"),
            row("two of five passes do not reach it", THIRD,
                "sick -> held", "well -> nothing", "well -> nothing", "sick -> held",
                "well -> nothing", "well -> nothing", "sick -> held"),
            row("a blocked pass does not count", THIRD, "sick -> held", "sick -> held",
                "blocked -> blocked", "sick -> restart 0: down still_down"),
            row("beyond the threshold every pass counts", THIRD, "sick -> held", "sick -> held",
                "sick -> restart 0: down still_down", "sick -> restart 1"),
            row("the next remedy is used when the last did not help", ONCE,
                "sick -> restart 0: down still_down", "cured -> restart 1: healed"),
            row("after the last remedy the last is used again",
                new RestartPolicy(1, 9, HOUR, HALF_MINUTE, DAY),
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "sick -> restart 2", "sick -> restart 2"),
            row("a useless remedy for another cause is no turn of this one", ONCE,
                "dns -> restart 3: down still_down", "sick -> restart 0", "sick -> restart 1"),
            row("a step that fails is a restart that did not help", ONCE,
                "broken -> restart 0: down still_down", "cured -> restart 1: healed"),
            row("the restart limit is reached: reported once", ONCE,
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "sick -> gave_up: gave_up", "sick -> gave_up", "sick -> gave_up"),
            row("beyond the limit one restart at a time, after a pause that doubles", ONCE,
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "sick -> gave_up: gave_up", "+50m sick -> restart 2", "sick -> gave_up",
                "+1h sick -> gave_up", "+1h sick -> restart 2", "+3h sick -> gave_up",
                "+1h sick -> restart 2"),
            row("a restart leaves the window at its end and not before",
                new RestartPolicy(1, 1, Duration.ofMinutes(20), HALF_MINUTE, DAY),
                "sick -> restart 0: down still_down", "sick -> gave_up: gave_up",
                "sick -> gave_up", "sick -> gave_up", "sick -> restart 1"),
            row("a service that fails again at once is one incident", ONCE,
                "cured -> restart 0: down healed", "cured -> restart 1: flapping",
                "cured -> restart 2", "sick -> gave_up: gave_up", "well -> nothing",
                "+50m well -> nothing", "well -> nothing: recovered"),
            row("an incident ends when the service has been healthy for an hour", ONCE,
                "cured -> restart 0: down healed", "+50m well -> nothing", "well -> nothing",
                "cured -> restart 0: down healed"),
            row("and was seen healthy at its end", ONCE, "cured -> restart 0: down healed",
                "+3h cured -> restart 0: flapping", "+1h well -> nothing: recovered",
                "cured -> restart 0: down healed"),
            row("after ten healthy minutes the remedies begin anew",
                new RestartPolicy(1, 9, HOUR, HALF_MINUTE, DAY),
                "sick -> restart 0: down still_down", "cured -> restart 1: healed",
                "well -> nothing", "well -> nothing", "cured -> restart 0: flapping",
                "cured -> restart 1"),
            row("a service that fails each half hour is restarted each time, and four messages", ONCE,
                "cured -> restart 0: down healed", "+25m cured -> restart 0: flapping",
                "+25m cured -> restart 0", "+25m cured -> restart 0", "+25m cured -> restart 0",
                "+25m well -> nothing", "+25m well -> nothing: recovered"),
            row("a service that recovers by itself", ONCE, "sick -> restart 0: down still_down",
                "well -> nothing: recovered", "well -> nothing", "well -> nothing"),
            row("an interrupted restart counts, and heals if the service is well then", ONCE,
                "cut -> restart 0: down", "well -> nothing: healed"),
            row("an interrupted restart counts, and its remedy is used again", ONCE,
                "cut -> restart 0: down", "cut -> restart 0", "cut -> restart 0",
                "sick -> gave_up: gave_up"),
            row("within its time it is not restarted again", PATIENT, "slow -> restart 0: down",
                "sick -> held", "sick -> held", "sick -> restart 1: still_down"),
            row("within its time it may become healthy", PATIENT, "slow -> restart 0: down",
                "sick -> held", "well -> nothing: healed"),
            row("a cause with a remedy of its own gets that one", ONCE,
                "dns -> restart 3: down still_down", "dns -> restart 3"),
            row("a cause without a remedy is reported and not touched", ONCE,
                "tls -> held: down", "tls -> held", "well -> nothing: recovered"),
            row("a cause without a remedy may turn into one that has one", ONCE,
                "tls -> held: down", "cured -> restart 0: healed"),
            row("inconclusive is never restarted; after an hour it is reported, and its end", ONCE,
                "unclear -> held", "unclear -> held", "+50m unclear -> held: inconclusive",
                "unclear -> held", "well -> nothing: inconclusive", "well -> nothing"),
            row("a service that is down after an inconclusive hour", ONCE, "blocked -> blocked",
                "+1h blocked -> blocked: inconclusive", "cured -> restart 0: down healed"),
            row("an incident goes on over blocked passes", ONCE,
                "sick -> restart 0: down still_down", "blocked -> blocked", "unclear -> held",
                "well -> nothing: recovered"),
            row("paused reports nothing", ONCE, "paused -> paused", "+5h paused -> paused",
                "well -> nothing"),
            row("an incident goes on over a pause", ONCE, "sick -> restart 0: down still_down",
                "paused -> paused", "sick -> restart 1", "paused -> paused",
                "well -> nothing: recovered"),
            row("reminders come at their time", REMINDING, "sick -> restart 0: down still_down",
                "sick -> gave_up: gave_up", "+5h sick -> gave_up", "+1h sick -> gave_up: reminder",
                "+5h sick -> gave_up", "+1h sick -> gave_up: reminder",
                "well -> nothing: recovered"),
            row("giving up is reminder enough", new RestartPolicy(1, 1, Duration.ofHours(24),
                HALF_MINUTE, Duration.ofHours(6)), "cut -> restart 0: down",
                "+7h sick -> gave_up: gave_up", "sick -> gave_up"),
            row("a reminder is for what is not restarted as well", REMINDING, "tls -> held: down",
                "+7h tls -> held: reminder"),
            row("a clock that is set back does not free the limit", ONCE,
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "-30d sick -> gave_up: gave_up"),
            row("a clock that is set back does not hold the limit for ever", ONCE,
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "-30d sick -> gave_up: gave_up", "+55m sick -> restart 2"),
            row("a clock that is set back does not hold `within` for ever", PATIENT,
                "slow -> restart 0: down", "-30d sick -> held", "+5m sick -> held",
                "sick -> restart 1: still_down"),
            row("a clock that is set back does not stop the reminders for ever", REMINDING,
                "tls -> held: down", "-30d tls -> held", "+6h tls -> held: reminder"),
            row("a clock that jumps ahead frees the limit", ONCE,
                "sick -> restart 0: down still_down", "sick -> restart 1", "sick -> restart 2",
                "+30d sick -> restart 2: reminder"));
    }

    private static DynamicTest row(String label, RestartPolicy policy, String... story) {
        return dynamicTest(label, () -> {
            Passes passes = new Passes(policy);
            List<String> done = new ArrayList<>();
            for (String pass : story) done.add(passes.next(pass.replaceFirst(" ->.*", "")));
            assertEquals(List.of(story), done);
        });
    }

    @Test void aRestartIsRememberedWithoutAResultBeforeItRunsAndWithOneAfterwards() {
        Passes passes = new Passes(new RestartPolicy(1, 9, HOUR, HALF_MINUTE, DAY));
        passes.next("cut");
        assertEquals(new RestartRecord(START, 0, "remedy 0", null), passes.state.lastRestart());
        passes.next("sick");
        assertEquals("did not help", passes.state.lastRestart().result());
        passes.next("cured");
        assertEquals("helped", passes.state.lastRestart().result());
        passes.next("broken");
        assertEquals("run 'x' failed", passes.state.lastRestart().result());
    }

    @Test void whatIsRememberedIsBounded() {
        Passes passes = new Passes(ONCE);
        for (int i = 0; i < 500; i++) passes.next("+3h " + List.of("cured", "well", "well").get(i % 3));
        assertEquals(ONCE.limit() + 100, passes.state.restarts().size());
        assertTrue(passes.state.recent().length() <= 1);
    }

    @Test void aLimitThatIsLargerThanWhatIsRememberedStillHolds() {
        Passes passes = new Passes(new RestartPolicy(1, 40, Duration.ofDays(2), HALF_MINUTE, DAY));
        for (int i = 0; i < 100; i++) passes.next("cured");
        assertEquals(40, passes.restarts.size());
    }

    /** An unhealable service, and one that works for a minute after each restart, for two days. */
    @TestFactory Stream<DynamicTest> twoDaysAreAHandfulOfRestartsAndMessages() {
        return Stream.of("sick", "cured", "broken").map(met -> dynamicTest(met, () -> {
            Passes passes = new Passes(ONCE);
            for (int i = 0; i < 2 * 24 * 12; i++) passes.next(met);
            assertTrue(passes.restarts.size() <= 8, passes.restarts.size() + " restarts");
            assertTrue(passes.messages <= 5, passes.messages + " messages");
        }));
    }

    /** It fails each so many minutes, and the restart helps each time; or it recovers by itself. */
    @TestFactory Stream<DynamicTest> aServiceThatComesAndGoesIsNoFlood() {
        return IntStream.of(10, 15, 20, 30, 45, 60).boxed()
            .flatMap(period -> Stream.of("cured", "tls").map(met -> dynamicTest(met + " each " + period,
                () -> {
                    Passes passes = new Passes(ONCE);
                    for (int minute = 0; minute < 2 * 24 * 60; minute += 5)
                        passes.next(minute % period == 0 ? met : "well");
                    assertTrue(passes.messages <= 6, passes.messages + " messages");
                })));
    }

    @TestFactory Stream<DynamicTest> noSequenceOfPassesBreaksTheLaws() {
        return IntStream.range(0, 60).mapToObj(seed -> dynamicTest("seed " + seed, () -> {
            Random random = new Random(seed);
            Duration remind = Duration.ofMinutes(1 + random.nextInt(random.nextBoolean() ? 300 : 3000));
            Passes passes = new Passes(new RestartPolicy(1 + random.nextInt(4), 1 + random.nextInt(12),
                Duration.ofMinutes(1 + random.nextInt(600)),
                Duration.ofSeconds(1 + random.nextInt(1200)), remind));
            List<String> words = List.copyOf(MET.keySet());
            String word = "well";
            for (int i = 0; i < 3000; i++) {
                if (random.nextInt(3) == 0) word = words.get(random.nextInt(words.size()));
                passes.next((random.nextInt(50) == 0 ? "+" + random.nextInt(20) + "h " : "") + word);
            }
        }));
    }

    /** One watch through many passes; each law is looked at in the pass that could break it. */
    private static final class Passes {
        final RestartPolicy policy;
        WatchState state = WatchState.NEW;
        Instant now = START;
        int messages;
        final List<Instant> restarts = new ArrayList<>();
        private Instant lastMessage = START;
        private final Map<Model.EventKind, Integer> reported = new HashMap<>();

        Passes(RestartPolicy policy) { this.policy = policy; }

        String next(String row) {
            String[] words = row.split(" ");
            String met = words[words.length - 1];
            if (words.length > 1) now = now.plus(time(words[0]));
            if (row.startsWith("-")) state = asReadFromDisk();
            Verdict verdict = MET.get(met);
            Decision decision = verdict.decide(policy, state, now);
            assertEquals(decision, verdict.decide(policy, state, now), "the same in, the same out");
            checkRestart(verdict, decision, met);
            checkCharged(decision.state());
            state = decision.state();
            List<Model.EventKind> events = new ArrayList<>(decision.events());
            if (decision.remedy() >= 0)
                events.addAll(restart(met, (Unhealthy) verdict, decision.remedy()));
            events.forEach(this::report);
            if (state.incident() == null) checkEnd();
            else if (verdict instanceof Unhealthy && !state.incident().isHealthy())
                assertTrue(lastMessage.plus(policy.remind()).isAfter(now), "silent since " + lastMessage);
            now = now.plus(Duration.ofMinutes(5));
            String did = decision.action() == Action.restarted ? "restart " + decision.remedy()
                : decision.action().name();
            return row + " -> " + did + (events.isEmpty() ? ""
                : ": " + String.join(" ", events.stream().map(Enum::name).toList()));
        }

        /** There, no time is later than now. */
        private WatchState asReadFromDisk() {
            return Json.as(WatchState.class, new JsonSlurper().parseText(Json.text(state)), now);
        }

        private static Duration time(String word) {
            Duration time = Duration.parse((word.endsWith("d") ? "P" : "PT")
                + word.substring(1).toUpperCase());
            return word.startsWith("-") ? time.negated() : time;
        }

        private void checkRestart(Verdict verdict, Decision decision, String met) {
            if (decision.remedy() < 0) return;
            assertEquals(Action.restarted, decision.action());
            assertTrue(verdict instanceof Unhealthy, "restarted although " + met);
            assertTrue(decision.state().incident() != null, "restarted without an incident");
            assertTrue(state.incident() != null && !state.incident().isHealthy()
                || decision.state().failures() >= policy.failures(), "restarted below the threshold");
            if (state.incident() == null && !met.equals("dns"))
                assertEquals(0, decision.remedy(), "the first remedy comes first");
        }

        /** What is charged is only what has run: a decision alone charges nothing. */
        private void checkCharged(WatchState next) {
            assertEquals(state.restarts().size(), next.restarts().size());
            if (next.incident() == null) return;
            Instant since = next.incident().since();
            long run = restarts.stream().filter(at -> !at.isBefore(since)).count();
            int charged = next.restartsSince(since).size();
            assertTrue(charged <= run, charged + " of " + run);
        }

        private List<Model.EventKind> restart(String met, Unhealthy verdict, int remedy) {
            restarts.add(now);
            long inWindow = restarts.stream().filter(at -> at.isAfter(now.minus(policy.per()))).count();
            assertTrue(inWindow <= policy.limit() || restarts.stream().anyMatch(at -> at.isAfter(now)),
                inWindow + " restarts within " + policy.per());
            state = state.withRestart(new RestartRecord(now, remedy, "remedy " + remedy, null), policy);
            if (met.equals("cut")) return List.of();
            String result = Map.of("broken", "run 'x' failed", "slow", RestartRecord.WAITING)
                .getOrDefault(met, RestartRecord.USELESS);
            Decision after = met.equals("cured") ? MET.get("well").decide(policy, state, now)
                : Decision.noRestart(Action.restarted, "", state).afterRestart(result, now);
            state = after.state();
            return after.events();
        }

        /** An incident reports each thing once but for reminders; its end again after a relapse. */
        private void report(Model.EventKind kind) {
            messages++;
            lastMessage = now;
            if (kind == Model.EventKind.inconclusive) return;
            assertEquals(kind == Model.EventKind.down, reported.isEmpty(), kind + " after " + reported);
            int times = reported.merge(kind, 1, Integer::sum);
            int most = kind == Model.EventKind.recovered
                && reported.containsKey(Model.EventKind.flapping) ? 2 : 1;
            assertTrue(times <= most || kind == Model.EventKind.reminder,
                kind + " reported " + times + " times in one incident");
            int all = reported.values().stream().mapToInt(Integer::intValue).sum();
            assertTrue(all - reported.getOrDefault(Model.EventKind.reminder, 0) <= 6, "a flood: " + reported);
        }

        private void checkEnd() {
            assertTrue(reported.isEmpty() || reported.containsKey(Model.EventKind.healed)
                || reported.containsKey(Model.EventKind.recovered), "an end that was not reported");
            reported.clear();
        }
    }
}
