///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DESCRIPTION A fire drill: stops a service on purpose, and proves that a pass restarts it.
//SOURCES ../watchdog.java

// drill: is there something to stop, stop it, does the check notice, does a normal pass heal it.

import java.util.LinkedHashSet;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(name = "drill",
    description = "Fire drill: stop a service, and prove that a pass restarts it.")
public final class drill extends Subcommand {
    @Parameters(paramLabel = "NAME") String name;
    @Option(names = "--yes", description = "Yes, stop the service.") boolean yes;
    private Workspace work;
    private long began;

    public static void main(String... args) { watchdog.runTool("drill", args); }

    @Override int run() {
        work = context.open(false);
        Watch watch = work.rules().get(name);
        Set<String> words = new LinkedHashSet<>();
        List<Step> stops = watch.steps()
            .filter(step -> step.isStop() && words.add(step.inWords())).toList();
        ExitException.mistakeIf(stops.isEmpty(), name + " has no stop in its restart, so a drill "
            + "cannot stop it");
        ExitException.mistakeIf(work.store().pausedUntil(name) != null, name + " is paused, so "
            + "nothing would restart it; end the pause with: watchdog resume "
            + Text.command(List.of(name)));
        Instant possible = work.store().of(watch).nextRestart(watch.policy());
        ExitException.mistakeIf(possible.isAfter(work.now()), name + " has reached its restart"
            + " limit, so nothing would restart it before " + Text.at(possible));
        ExitException.mistakeIf(!yes, "a drill stops " + name + " on purpose: "
            + String.join(", ", words) + "; to go on, add --yes");
        return new PassLock(context).hold(() -> stopAndHeal(watch, stops) ? 0 : 1);
    }

    private boolean stopAndHeal(Watch watch, List<Step> stops) {
        work = context.open(true); // its deadline begins now
        began = System.nanoTime();
        ExitException.mistakeIf(!isHealthy(watch),
            name + " is not healthy now; a drill needs a healthy service");
        timeline(name + " is healthy");
        stop(watch, stops);

        boolean noticed = Deadline.in(watch.policy().within()).await(() -> !isHealthy(watch));
        timeline(noticed ? "the check noticed"
            : "the check did NOT notice: it still says healthy; restarting " + name);
        if (noticed) return heal(watch);
        timeline(new Pass(work, List.of(watch)).restartNow(watch).restart.inWords());
        return false;
    }

    private boolean heal(Watch watch) {
        WatchState before = work.store().of(watch);
        work.store().put(watch, before.withIncident(null)); // as if it were healthy for long
        work.store().save();
        context.messagePrefix = "Drill: ";
        PassCommand pass = new PassCommand(context);
        for (int i = 0; i < watch.policy().failures(); i++)
            pass.run(List.of(watch.name()));
        work = context.open(true);
        boolean healed = isHealthy(watch);
        if (healed) work.store().put(watch, before); // a drill does not count as an incident
        work.store().save();
        timeline(watch.name() + (healed ? " is healthy again: the drill has passed"
            : " was NOT restarted: the drill has failed"));
        return healed;
    }

    private boolean isHealthy(Watch watch) {
        return work.checker().attempt(watch).isHealthy();
    }

    private void stop(Watch watch, List<Step> stops) {
        RestartRun stopping = new RestartRun(work.runner(), watch)
            .run(stops, context.printer::progress);
        timeline(stopping.inWords());
        ExitException.mistakeIf(stopping.hasFailed()
            || stopping.inWords().endsWith("so nothing was stopped"),
            "the drill ends here, since its stop ended no process");
    }

    private void timeline(String text) {
        double seconds = (System.nanoTime() - began) / 1e9;
        String time = context.options.json ? "" : String.format(Locale.ROOT, "%7.1f s  ", seconds);
        context.printer.say(time + text, "seconds", seconds);
    }
}
