import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

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
 * The whole judgement of watchdog, as tables. A row is a story of passes: each word is what a pass met and, behind the
 * arrow, what is done and told. One pass is five minutes; `+2h` before a word is the time that goes by first.
 */
class DecideTest {
    private static final Instant START = Instant.parse("2026-03-01T08:00:00Z");
    private static final RestartPolicy ONCE = new RestartPolicy(1, 3, Duration.ofHours(1), Duration.ofSeconds(30), null);
    private static final RestartPolicy THIRD = new RestartPolicy(3, 3, Duration.ofHours(1), Duration.ofSeconds(30), null);
    private static final RestartPolicy PATIENT = new RestartPolicy(1, 3, Duration.ofHours(1), Duration.ofMinutes(12), null);
    private static final RestartPolicy REMINDING = new RestartPolicy(1, 1, Duration.ofHours(24), Duration.ofSeconds(30), Duration.ofHours(6));

    /**
     * What a pass may meet: `well`; `sick`, a restart of which does not help; `cured`: sick, and its restart helps;
     * `broken`: sick, and a step of its restart fails; `cut`: sick, and the pass is killed in its restart; `slow`: sick,
     * and the pass's deadline comes first; `dns`: sick of a cause with a remedy of its own, the last; `tls`: sick of a
     * cause without a remedy; `blocked`, `unclear`, `paused`.
     */
    private static final Map<String, Verdict> MET = Map.ofEntries(
        Map.entry("well", new Healthy("200 in 20 ms")), Map.entry("sick", sick("530", 0, 1, 2)), Map.entry("cured", sick("530", 0, 1, 2)),
        Map.entry("broken", sick("530", 0, 1, 2)), Map.entry("cut", sick("530", 0, 1, 2)), Map.entry("slow", sick("530", 0, 1, 2)),
        Map.entry("dns", sick("dns", 3)), Map.entry("tls", new Unhealthy("has expired", null, List.of(), "a restart does not renew a certificate")),
        Map.entry("blocked", new Inconclusive("needs internet, which is unhealthy", true)),
        Map.entry("unclear", new Inconclusive("could not be evaluated", false)), Map.entry("paused", new Paused("paused until it is resumed")));

    private static Unhealthy sick(String answer, Integer... cures) {
        return new Unhealthy("expected status == 200, but status was " + answer, null, List.of(cures), "");
    }

    @TestFactory Stream<DynamicTest> eachPassDoesWhatItsTableSays() {
        return Stream.of(
            row("a first look that is well says nothing", ONCE, "well -> nothing"),
            row("a service that answers is left alone", ONCE, "well -> nothing, well -> nothing"),
            row("down is told, and restarted at once", ONCE, "cured -> restart 0: down healed, well -> nothing"),
            row("below the threshold nothing is restarted and no one is told", THIRD, "sick -> held, sick -> held, cured -> restart 0: down healed"),
            row("the passes of a threshold are passes in a row", THIRD, "sick -> held, sick -> held, well -> nothing, sick -> held, sick -> held, well -> nothing"),
            row("what is blocked is not restarted and does not count", THIRD, "sick -> held, sick -> held, blocked -> blocked, sick -> restart 0: down still_down"),
            row("once over the threshold it stays over it", THIRD, "sick -> held, sick -> held, sick -> restart 0: down still_down, sick -> restart 1"),
            row("still_down is said once", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2"),
            row("the next rung is taken when the last did not help", ONCE, "sick -> restart 0: down still_down, cured -> restart 1: healed"),
            row("after the last rung the last is taken again", new RestartPolicy(1, 9, Duration.ofHours(1), Duration.ofSeconds(30), null),
                "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, sick -> restart 2, sick -> restart 2"),
            row("after recovery the ladder starts at its first rung", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, well -> nothing: recovered, cured -> restart 0: down healed"),
            row("a step that fails is a restart that did not help", ONCE, "broken -> restart 0: down still_down, cured -> restart 1: healed"),
            row("the budget is spent: said once", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, sick -> gave_up: gave_up, sick -> gave_up, sick -> gave_up"),
            row("the budget re-arms as the window moves on, and that it is spent again is no news", ONCE,
                "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, sick -> gave_up: gave_up, +50m sick -> restart 2, sick -> restart 2, sick -> restart 2, sick -> gave_up"),
            row("a restart leaves the window at its end and not before", new RestartPolicy(1, 1, Duration.ofMinutes(20), Duration.ofSeconds(30), null),
                "sick -> restart 0: down still_down, sick -> gave_up: gave_up, sick -> gave_up, sick -> gave_up, sick -> restart 1"),
            row("restarts that helped count against the budget as well", ONCE, "cured -> restart 0: down healed, cured -> restart 0: down healed, "
                + "cured -> restart 0: down healed, sick -> gave_up: down gave_up, well -> nothing: recovered"),
            row("given up is said again in the next story", ONCE, "cured -> restart 0: down healed, cured -> restart 0: down healed, cured -> restart 0: down healed, "
                + "sick -> gave_up: down gave_up, well -> nothing: recovered, sick -> gave_up: down gave_up"),
            row("a service that comes back by itself has recovered", ONCE, "sick -> restart 0: down still_down, well -> nothing: recovered, well -> nothing"),
            row("a restart that was cut off counts, and heals if it is well then", ONCE, "cut -> restart 0: down, well -> nothing: healed"),
            row("a restart that was cut off counts, and its rung is taken again", ONCE, "cut -> restart 0: down, cut -> restart 0, cut -> restart 0, sick -> gave_up: gave_up"),
            row("within its time it is not restarted again", PATIENT, "slow -> restart 0: down, sick -> held, sick -> held, sick -> restart 1: still_down"),
            row("within its time it may become healthy", PATIENT, "slow -> restart 0: down, sick -> held, well -> nothing: healed"),
            row("a cause with a remedy of its own gets that one", ONCE, "dns -> restart 3: down still_down, dns -> restart 3"),
            row("a cause without a remedy is told and not touched", ONCE, "tls -> held: down, tls -> held, well -> nothing: recovered"),
            row("a cause without a remedy may turn into one that has one", ONCE, "tls -> held: down, cured -> restart 0: healed"),
            row("inconclusive is never restarted nor told", ONCE, "unclear -> held, unclear -> held, blocked -> blocked, well -> nothing"),
            row("a story goes on over blocked passes", ONCE, "sick -> restart 0: down still_down, blocked -> blocked, unclear -> held, well -> nothing: recovered"),
            row("paused is hands off, and says nothing", ONCE, "paused -> paused, paused -> paused, well -> nothing"),
            row("a story goes on over a pause", ONCE, "sick -> restart 0: down still_down, paused -> paused, sick -> restart 1, paused -> paused, well -> nothing: recovered"),
            row("reminders come at their time", REMINDING, "sick -> restart 0: down still_down, sick -> gave_up: gave_up, +5h sick -> gave_up, +1h sick -> gave_up: reminder, "
                + "+5h sick -> gave_up, +1h sick -> gave_up: reminder, well -> nothing: recovered"),
            row("giving up is reminder enough", new RestartPolicy(1, 1, Duration.ofHours(24), Duration.ofSeconds(30), Duration.ofHours(6)),
                "cut -> restart 0: down, +7h sick -> gave_up: gave_up, sick -> gave_up"),
            row("a reminder is for what is not restarted as well", REMINDING, "tls -> held: down, +7h tls -> held: reminder"),
            row("a clock that is set back does not free the budget", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, -30d sick -> gave_up: gave_up"),
            row("a clock that is set back does not hold the budget for ever", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, "
                + "-30d sick -> gave_up: gave_up, +55m sick -> restart 2"),
            row("a clock that is set back does not hold a restart within its time for ever", PATIENT, "slow -> restart 0: down, -30d sick -> held, +5m sick -> held, sick -> restart 1: still_down"),
            row("a clock that is set back does not stop the reminders for ever", REMINDING, "tls -> held: down, -30d tls -> held, +6h tls -> held: reminder"),
            row("a clock that jumps ahead re-arms the budget", ONCE, "sick -> restart 0: down still_down, sick -> restart 1, sick -> restart 2, +30d sick -> restart 2"));
    }

    private static DynamicTest row(String label, RestartPolicy policy, String story) {
        return dynamicTest(label, () -> {
            Life life = new Life(policy);
            List<String> lived = new ArrayList<>();
            for (String pass : story.split(", ")) lived.add(life.pass(pass.replaceFirst(" ->.*", "")));
            assertEquals(story, String.join(", ", lived));
        });
    }

    @Test void aRestartIsInTheMemoryWithoutAResultBeforeItRunsAndWithOneAfterwards() {
        Life life = new Life(new RestartPolicy(1, 9, Duration.ofHours(1), Duration.ofSeconds(30), null));
        life.pass("cut");
        assertEquals(new RestartRecord(START, "remedy 0", null), life.state.lastRestart());
        life.pass("sick");
        assertEquals("did not help", life.state.lastRestart().result());
        life.pass("cured");
        assertEquals("helped", life.state.lastRestart().result());
        life.pass("broken");
        assertEquals("run 'x' failed", life.state.lastRestart().result());
    }

    @Test void theMemoryOfRestartsIsBounded() {
        Life life = new Life(ONCE);
        for (int i = 0; i < 500; i++) life.pass("+30m cured");
        assertEquals(10, life.state.restarts().size());
    }

    @Test void aBudgetThatIsLargerThanTheMemoryOfRestartsStillHolds() {
        Life life = new Life(new RestartPolicy(1, 40, Duration.ofDays(2), Duration.ofSeconds(30), null));
        for (int i = 0; i < 100; i++) life.pass("cured");
        assertEquals(40, life.restarts.size());
    }

    @TestFactory Stream<DynamicTest> noSequenceOfPassesBreaksTheLaws() {
        return IntStream.range(0, 60).mapToObj(seed -> dynamicTest("seed " + seed, () -> {
            Random random = new Random(seed);
            Duration remind = random.nextBoolean() ? null : Duration.ofMinutes(1 + random.nextInt(300));
            Life life = new Life(new RestartPolicy(1 + random.nextInt(4), 1 + random.nextInt(12), Duration.ofMinutes(1 + random.nextInt(600)),
                Duration.ofSeconds(1 + random.nextInt(1200)), remind));
            List<String> words = List.copyOf(MET.keySet());
            String word = "well";
            for (int pass = 0; pass < 3000; pass++) {
                if (random.nextInt(3) == 0) word = words.get(random.nextInt(words.size()));
                life.pass((random.nextInt(50) == 0 ? "+" + random.nextInt(20) + "h " : "") + word);
            }
        }));
    }

    /** One watch through many passes, as a pass leads it; each law that a step can break is looked at in that step. */
    private static final class Life {
        final RestartPolicy policy;
        WatchState state = WatchState.NEW;
        Instant now = START;
        final List<Instant> restarts = new ArrayList<>();
        private final Map<Model.EventKind, Integer> toldOfThis = new HashMap<>();
        private int failuresInARow;

        Life(RestartPolicy policy) { this.policy = policy; }

        String pass(String row) {
            String[] words = row.split(" ");
            String met = words[words.length - 1];
            if (words.length > 1) now = now.plus(time(words[0]));
            Verdict verdict = MET.get(met);
            Decision decision = verdict.decide(policy, state, now);
            assertEquals(decision, verdict.decide(policy, state, now), "the same in, the same out");
            lawsOf(verdict, decision, met);
            state = decision.state();
            List<Model.EventKind> told = new ArrayList<>(decision.events());
            if (decision.remedy() >= 0) told.addAll(restart(met, (Unhealthy) verdict, decision.remedy()));
            told.forEach(this::hears);
            if (state.incident() == null) assertTrue(toldOfThis.isEmpty() || told.contains(Model.EventKind.healed) || told.contains(Model.EventKind.recovered));
            if (state.incident() == null) toldOfThis.clear();
            now = now.plus(Duration.ofMinutes(5));
            String did = decision.action() == Action.restarted ? "restart " + decision.remedy() : decision.action().name();
            return row + " -> " + did + (told.isEmpty() ? "" : ": " + String.join(" ", told.stream().map(Enum::name).toList()));
        }

        private static Duration time(String word) {
            Duration time = Duration.parse((word.endsWith("d") ? "P" : "PT") + word.substring(1).toUpperCase());
            return word.startsWith("-") ? time.negated() : time;
        }

        private void lawsOf(Verdict verdict, Decision decision, String met) {
            if (verdict instanceof Unhealthy) failuresInARow++;
            if (verdict instanceof Healthy) failuresInARow = 0;
            boolean open = state.incident() != null;
            if (decision.remedy() < 0) return;
            assertEquals(Action.restarted, decision.action());
            assertTrue(verdict instanceof Unhealthy, "restarted although " + met);
            assertTrue(open || failuresInARow >= policy.failures(), "restarted below the threshold");
            if (!open && !met.equals("dns")) assertEquals(0, decision.remedy(), "the first rung comes first");
        }

        private List<Model.EventKind> restart(String met, Unhealthy verdict, int remedy) {
            restarts.add(now);
            long within = restarts.stream().filter(at -> at.isAfter(now.minus(policy.per()))).count();
            assertTrue(within <= policy.limit() || restarts.stream().anyMatch(at -> at.isAfter(now)), within + " restarts within " + policy.per());
            state = state.withRestartIntent("remedy " + remedy, policy, now);
            if (met.equals("cut")) return List.of();
            Decision after = met.equals("cured") ? MET.get("well").decide(policy, state, now)
                : verdict.afterRestart(met.equals("broken") ? "run 'x' failed" : met.equals("slow") ? RestartRecord.WAITING : RestartRecord.USELESS, state, now);
            state = after.state();
            return after.events();
        }

        /** A story opens once, closes once, and says each thing in it once but for reminders. */
        private void hears(Model.EventKind kind) {
            if (kind == Model.EventKind.down) assertTrue(toldOfThis.isEmpty(), "down inside of a story");
            else assertTrue(toldOfThis.containsKey(Model.EventKind.down), kind + " outside of a story");
            int times = toldOfThis.merge(kind, 1, Integer::sum);
            assertTrue(times == 1 || kind == Model.EventKind.reminder, kind + " told " + times + " times in one story");
        }
    }
}
