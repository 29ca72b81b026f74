///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DESCRIPTION Runs watchdog every few minutes: by cron, a systemd timer or a launchd agent.
//FILES reference.groovy=../docs/reference.groovy
//SOURCES ../watchdog.java
//SOURCES Schedulers.java
//SOURCES Installation.java
//SOURCES HomeRulesCommand.java
//SOURCES ManPage.java
//SOURCES ToolOutput.java
//SOURCES setup.java
//SOURCES report.java
//SOURCES drill.java

// The command and its job. Schedulers.java has cron, systemd and launchd; Installation.java has
// what they run: a copy of watchdog that needs neither JBang nor the network.

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

@Command(name = "schedule", sortOptions = false, description = {
    "Run a pass every few minutes, by cron, systemd or launchd.",
    "Without --install and --remove: print what --install would write."})
public final class schedule extends HomeRulesCommand {
    /** What starts the passes, and the program that this needs. */
    enum Kind {
        cron("crontab"), systemd("systemctl"), launchd("launchctl");
        final String program;
        Kind(String program) { this.program = program; }
    }

    @Option(names = "--every", paramLabel = "TIME", description = "The time between two passes,"
        + " for example 10m or 1h; default: as it is installed, or else 5m.")
    Duration every;
    @Option(names = "--as", paramLabel = "KIND", description = "cron, systemd or launchd; default:"
        + " as it is installed, or else launchd on macOS, cron elsewhere, or systemd without cron.")
    Kind as;
    @Option(names = "--page", paramLabel = "FILE",
        description = "After each pass write the page of `watchdog report` to this file.")
    Path page;
    @Option(names = "--install", description = "Write the schedule, or replace it. Also write the"
        + " command watchdog and its manual page.")
    boolean install;
    @Option(names = "--remove", description = "Remove the schedule and the manual page.")
    boolean remove;
    private ToolOutput output;
    private Job job;
    private List<Scheduler> all;

    public static void main(String... args) { watchdog.runTool("schedule", args); }

    @Override int run() {
        output = new ToolOutput(context);
        ExitException.mistakeIf(install && remove, "use either --install or --remove");
        ExitException.mistakeIf(context.readOnly, "a schedule needs a writable state folder");
        String present = installed("schedule"), presentPage = installed("page");
        if (every == null) every = Text.parseDuration(present.isEmpty() ? "5m" : present + "s");
        if (page != null) page = report.target(context, page);
        else if (!presentPage.isEmpty()) page = Path.of(presentPage);
        job = Job.of(context, every, page);
        all = List.of(new Crontab(job), Units.systemd(job), Units.launchd(job));
        output.field("rules", context.rulesFile.toString());
        output.field("every", every.toSeconds());
        return output.end(context.orExit("cannot change the schedule", () -> {
            if (remove) return remove(as == null ? all : List.of(all.get(as.ordinal())));
            RulesLoader.read(context.rulesFile); // there must be rules to schedule
            return install ? install(kind()) : print(all.get(kind().ordinal()));
        }));
    }

    /** What the last --install has written into a file of the state folder, or nothing. */
    private String installed(String name) {
        return SecureFiles.orElse(() -> Files.readString(context.folder.resolve(name)).strip(),
            missing -> "");
    }

    private Kind kind() throws IOException {
        if (as != null) return as;
        for (Kind kind : Kind.values()) if (all.get(kind.ordinal()).isInstalled()) return kind;
        if (System.getProperty("os.name").startsWith("Mac")) return Kind.launchd;
        return job.finds(Kind.cron.program) ? Kind.cron : Kind.systemd;
    }

    private int print(Scheduler scheduler) throws IOException {
        boolean replaces = scheduler.isInstalled();
        output.field("places", scheduler.places());
        output.field("text", scheduler.text());
        output.field("installed", replaces);
        if (!output.isForPeople()) return 0;
        context.env.out().print(scheduler.text());
        context.printer.warn("nothing was changed; --install writes this"
            + (replaces ? " in place of the present schedule" : ""));
        return 0;
    }

    private int remove(List<Scheduler> schedulers) throws IOException {
        boolean found = false;
        for (Scheduler scheduler : schedulers) found |= removeOne(scheduler);
        if (!found) output.say("no schedule found for " + context.rulesFile);
        for (Scheduler scheduler : all) if (scheduler.isInstalled()) return 0;
        Files.deleteIfExists(job.interval());
        Files.deleteIfExists(context.folder.resolve("page"));
        if (!found || isShared()) return 0;
        Path manual = ManPage.file(job.command());
        if (Files.deleteIfExists(manual)) output.did("removed", manual, "");
        output.did("kept", job.command(), ", the rules and the state");
        return 0;
    }

    private boolean removeOne(Scheduler scheduler) throws IOException {
        if (!scheduler.isInstalled()) return false;
        scheduler.remove();
        scheduler.places().forEach(place -> output.did("removed", place, ""));
        return true;
    }

    /** Whether other rules have a schedule, which needs the command and its manual page too. */
    private boolean isShared() throws IOException {
        try (Stream<Path> folders = Files.list(context.folder.getParent())) {
            return folders.anyMatch(folder -> Files.exists(folder.resolve("schedule")));
        }
    }

    private int install(Kind kind) throws IOException {
        ExitException.mistakeIf(!job.finds(kind.program), kind + " is not on this machine, since"
            + " there is no " + kind.program + "; choose another with --as");
        Scheduler chosen = all.get(kind.ordinal());
        Installation.of(context.env, job.command()).install();
        output.did("wrote", job.command(), "");
        installManPage();
        chosen.install();
        chosen.places().forEach(place -> output.did("wrote", place, ""));
        for (Scheduler other : all) if (other != chosen) removeOne(other); // not two schedules
        SecureFiles.write(job.interval(), String.valueOf(every.toSeconds()));
        SecureFiles.write(context.folder.resolve("page"), page == null ? "" : page + "");
        output.say(kind + " will run a pass every " + Text.time(every) + " with "
            + context.rulesFile + ".");
        chosen.problems().forEach(output::warn);
        return dryRun();
    }

    /** Without it the schedule works all the same. */
    private void installManPage() {
        Path file = ManPage.file(job.command());
        try {
            Files.createDirectories(file.getParent());
            SecureFiles.write(file, new ManPage(spec.parent()).text(), SecureFiles.PUBLIC);
            output.did("wrote", file, "");
        } catch (IOException e) {
            output.warn("cannot write the manual page: " + Text.thrown(e));
        }
    }

    /** With what cron gives it. The script makes its class-data archive now, not in a pass. */
    private int dryRun() {
        List<String> words = new ArrayList<>(List.of("env", "-i", "HOME=" + job.home(),
            "PATH=" + CommandRunner.CRON_PATH, job.command().toString()));
        words.addAll(job.arguments());
        words.add("--dry-run");
        CommandResult result = job.run(words.toArray(String[]::new));
        output.field("pass", Json.fields("exit", result.exit(), "output", result.output()));
        if (result.exit() == 0) output.say("A trial pass without restarts found all healthy.");
        else output.warn("a trial pass without restarts ended with exit code " + result.exit()
            + (result.output().isBlank() ? ", as the pass before; `watchdog status` says why"
            : ":\n" + result.output().strip()));
        boolean failed = result.exit() == 2 || result.exit() == 4;
        if (!failed) validate();
        sayHowToCall();
        return failed ? result.exit() : 0;
    }

    private void validate() {
        ValidateCommand command = new ValidateCommand();
        command.context = context;
        command.problems(context.open(false).rules()).forEach(output::problem);
    }

    private void sayHowToCall() {
        String bin = job.command().getParent().toString();
        String path = context.env.variables().getOrDefault("PATH", "");
        if (!List.of(path.split(":")).contains(bin)) output.say("To call watchdog by its name, add"
            + " this line to the profile of your shell: export PATH=\"" + bin + ":$PATH\"");
    }
}

/** What runs, and how often; {@code id} is the name of the state folder, for file names. */
record Job(String id, Path home, Path config, Path folder, Path command, List<String> arguments,
           Path page, Duration every, CommandRunner runner) {
    Job {
        long minutes = every.toMinutes();
        boolean fits = minutes > 0 && (60 % minutes == 0
            || minutes % 60 == 0 && minutes < 1440 && 1440 % minutes == 0);
        ExitException.mistakeIf(!fits || every.toSecondsPart() > 0, "--every must divide an hour or"
            + " a day into equal parts, for example 1m, 5m, 15m, 1h or 6h");
    }

    static Job of(Context context, Duration every, Path page) {
        Path home = context.env.home(), folder = context.folder;
        List<String> arguments =
            new ArrayList<>(List.of("--quiet", "--rules", context.rulesFile.toString()));
        if (!folder.getParent().equals(home.resolve(".local/state/watchdog")))
            arguments.addAll(List.of("--state", folder.getParent().toString()));
        return new Job(folder.getFileName().toString().replaceAll("[^\\w.-]", "_"), home,
            context.env.folder("XDG_CONFIG_HOME", ".config"), folder,
            home.resolve(".local/bin/watchdog"), arguments, page, every,
            new CommandRunner(home, folder, context.secrets.forCommands,
                Deadline.in(Duration.ofMinutes(5))));
    }

    String user() { return System.getProperty("user.name"); }

    /** For `status`: the seconds between two passes. */
    Path interval() { return folder.resolve("schedule"); }

    /** The script keeps a log of a bounded size, since cron and launchd keep no output. */
    List<String> words(boolean log) {
        List<String> words = new ArrayList<>(List.of(command.toString()));
        if (log) words.addAll(List.of("--log", folder.resolve("schedule.log").toString()));
        if (page != null) words.addAll(List.of("--page", page.toString()));
        words.addAll(arguments);
        return words;
    }

    boolean finds(String program) {
        try {
            return runner.resolve(program) != null;
        } catch (IllegalStateException missing) {
            return false;
        }
    }

    CommandResult run(String... words) {
        try {
            return runner.run(List.of(words), Duration.ofMinutes(5), Map.of("LC_ALL", "C"));
        } catch (IllegalStateException e) {
            throw ExitException.failure("watchdog: " + e.getMessage());
        }
    }
}
