///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DESCRIPTION Checks services from cron, restarts what is down, proves that it helped, notifies you.
//DOCS guide=README.md
//DEPS info.picocli:picocli:4.7.7
//DEPS org.apache.groovy:groovy:5.1.1
//DEPS org.apache.groovy:groovy-json:5.1.1
//DEPS com.squareup.okhttp3:okhttp-jvm:5.5.1
//COMPILE_OPTIONS -encoding UTF-8 -parameters -XDstringConcat=inline
//RUNTIME_OPTIONS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xms24m -Xmn12m -Xmx256m
//RUNTIME_OPTIONS -Xshare:auto -Xlog:disable -Xlog:all=error:stderr
//RUNTIME_OPTIONS -Dfile.encoding=UTF-8 -Dpicocli.disable.closures=true -Djdk.console=java.base

// watchdog: one check-and-heal pass over the services that rules.groovy names; cron is its clock.
// The file is in reading order: first the data, then a pass as you meet it by scrolling down: main,
// command, checks, verdict, decision, restart, message, state on disk. Sections 10 to 12 read the
// rules, 13 prints.
// `grep -n '// ===' watchdog.java` prints its table of contents.

import static groovy.lang.Closure.DELEGATE_FIRST;
import static org.codehaus.groovy.runtime.StringGroovyMethods.capitalize;
import static org.codehaus.groovy.runtime.StringGroovyMethods.uncapitalize;

import com.sun.security.auth.module.UnixSystem;
import groovy.json.*;
import groovy.lang.*;
import groovy.transform.CompileStatic;
import groovy.transform.ThreadInterrupt;
import groovy.transform.stc.*;
import java.io.*;
import java.lang.annotation.*;
import java.lang.reflect.*;
import java.math.BigDecimal;
import java.net.*;
import java.net.Proxy;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.charset.*;
import java.nio.file.*;
import java.nio.file.attribute.*;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.*;
import java.time.*;
import java.time.temporal.ChronoUnit;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.ExecutionException;
import java.util.function.*;
import java.util.regex.*;
import java.util.stream.*;
import javax.net.ssl.*;
import okhttp3.*;
import okhttp3.EventListener;
import okio.ByteString;
import okio.Utf8;
import org.codehaus.groovy.ast.*;
import org.codehaus.groovy.ast.expr.*;
import org.codehaus.groovy.ast.stmt.*;
import org.codehaus.groovy.ast.tools.GeneralUtils;
import org.codehaus.groovy.classgen.GeneratorContext;
import org.codehaus.groovy.control.*;
import org.codehaus.groovy.control.customizers.*;
import org.codehaus.groovy.control.messages.*;
import org.codehaus.groovy.runtime.MethodRankHelper;
import org.codehaus.groovy.syntax.SyntaxException;
import org.codehaus.groovy.transform.stc.*;
import picocli.*;
import picocli.CommandLine.*;

// === 1. The model ==============================================================================
// A Watch is what the rules say, a Response what a service answered, a WatchState what earlier
// passes learned. Most types here are plain data; sections 4 to 7 say what happens to them.

/** What rules files share with the rest. Public, because a script lives in another class loader. */
interface Model {
    /** The kinds of event, for `on: [healed, gave_up]`. */
    enum EventKind {
        down, healed, still_down, gave_up, flapping, recovered, reminder, inconclusive,
        rules_broken, test
    }

    /** Why there is no response, for `restart(when: { error == refused })`. */
    enum Failure { none, refused, unknownHost, unreachable, denied, timeout, tls, reset, closed }

    /** A message, as blocks and webhooks of the rules get it. */
    record Event(EventKind kind, String watch, String title, String text, Instant at,
                 Instant since) {
        String incident() { return watch + since; }
    }

    /** A way to notify somebody. Two with the same settings are the same hook. */
    record Hook(String label, String id, Sender sender, Set<EventKind> on, Hook orElse) {
        Stream<Hook> withFallback() { return Stream.of(this, orElse).filter(Objects::nonNull); }

        /** The same hook at two places of the rules. */
        Hook with(Hook other) {
            Set<EventKind> all = EnumSet.copyOf(on);
            all.addAll(other.on);
            return new Hook(label, id, sender, all, orElse == null ? other.orElse : orElse);
        }
    }

    /** Steps, and for which cause (null: any). Watches with the same list restart once a pass. */
    record Remedy(Expectation when, List<Step> steps) {
        String inWords() {
            return steps.isEmpty() ? "nothing"
                : steps.stream().map(Step::inWords).collect(Collectors.joining(", then "));
        }
    }
}

/** One service under watch, as the rules describe it; {@code healthy} null: the default. */
record Watch(String name, Probe probe, Expectation healthy, List<Model.Remedy> remedies,
             List<String> dependencies, CheckSettings settings, RestartPolicy policy,
             List<Model.Hook> hooks) {
    Stream<Step> steps() { return remedies.stream().flatMap(remedy -> remedy.steps().stream()); }

    /** The name is unique. (A record's own equals would slow down the start.) */
    @Override public boolean equals(Object other) {
        return other instanceof Watch watch && watch.name.equals(name);
    }
    @Override public int hashCode() { return name.hashCode(); }
}

/** How to check: {@code good} of {@code samples}, tried up to {@code attempts} times. */
record CheckSettings(Duration timeout, int attempts, Duration every, int samples, int good) { }

/** When to restart, and after how much silence to remind. */
record RestartPolicy(int failures, int limit, Duration per, Duration within, Duration remind) { }

/** What a watch checks: a URL, a port or a command. */
sealed interface Probe permits HttpProbe, TcpProbe, CommandProbe, UnusableProbe {
    Response check(Checker checker, Exchange exchange);
    String inWords();
}

/** The outcome of one check, bounded in size. Status 0 and a failure: there was no response. */
record Response(int status, Headers headers, String body, String url, String protocol,
                X509Certificate certificate, Duration time, Map<String, Double> phases,
                Model.Failure failure, String failureText) {
    /** Once it is judged: hundreds of whole bodies would not fit into memory. */
    Response shortened() {
        return new Response(status, headers, Text.cut(body, 1 << 14), url, protocol, certificate,
            time, phases, failure, failureText);
    }

    /** What is healthy by default: a connection, exit code 0 or status 2xx. */
    boolean isHealthyByDefault() {
        return protocol.matches("tcp|command") ? status == 0 : status / 100 == 2;
    }

    /** What was received, for a reason: the status, if it does not show that, and the body. */
    String got(boolean showsStatus) {
        boolean command = protocol.equals("command");
        List<String> parts = new ArrayList<>();
        if (!showsStatus) parts.add((command ? "exit code " : "HTTP ") + status);
        String to = status / 100 == 3 ? headers.get("Location") : null;
        if (to != null) parts.add("a redirect to " + Text.redactedUrl(Text.plain(to, 120))
            + (url.startsWith("https:") && to.startsWith("http:") ? ""
                : "; to follow it, write: followRedirects any"));
        else if (!body.isBlank()) parts.add(command
            ? "'" + Text.lastWords(body).replaceFirst(": ", "") + "'"
            : Text.value(Text.htmlTitle(body)));
        return parts.isEmpty() || protocol.equals("tcp") ? "" : "; got " + String.join(", ", parts);
    }
}

/** What must be true of a response. */
interface Expectation {
    /** The first condition that is not true, or null. */
    FailedCondition firstFailure(Response response);

    /** The conditions as the rules have them. */
    String inWords();
}

/**
 * A condition that is not true: in one sentence, and as a diagram of its values, or null;
 * {@code thrown}: it could not be evaluated.
 */
record FailedCondition(String reason, String diagram, boolean ofCertificate, boolean thrown) { }

/** A step of a remedy; {@code command}: the words that it runs or stops, or none. */
record Step(String verb, String text, List<String> command, Code code) {
    /** Returns what was done, or throws an exception that says why it could not be. */
    interface Code { String run(RestartRun restart, Step step); }

    Step {
        if (verb.equals("stop")) ProcessStopper.requireSafe(text);
    }

    boolean isStop() { return verb.equals("stop"); }
    String inWords() { return verb + (command.isEmpty() ? " " + text : " '" + text + "'"); }
}

/** How a hook sends a message. */
interface Sender { DeliveryResult send(Notifier notifier, Model.Event event); }

/** Marks what may be missing in memory.json; all other components must be there. */
@Retention(RetentionPolicy.RUNTIME) @interface Nullable { }

/** One restart; {@code result} is null while it runs, or if it was interrupted. */
record RestartRecord(Instant at, int remedy, String what, @Nullable String result) {
    static final String WAITING = "started, waiting for it", HELPED = "helped",
        USELESS = "did not help", HEALTHY_LATER = "healthy only later",
        NOT_LASTING = "did not last";

    static final int ON_REQUEST = -1; // no remedy: outside of the restart limit

    boolean isPending() { return result == null || result.equals(WAITING); }
    boolean endedHealthy() { return HELPED.equals(result) || HEALTHY_LATER.equals(result); }
    String inWords() { return what + " (" + (result == null ? "interrupted" : result) + ")"; }
    RestartRecord withResult(String next) { return new RestartRecord(at, remedy, what, next); }
}

/**
 * One outage: opened when the failure threshold is reached, closed when the service has been
 * healthy for an hour. {@code healthySince}: null while it is unhealthy; {@code relapses}: how
 * often it failed again.
 */
record Incident(Instant since, String reason, int relapses, @Nullable Instant healthySince,
                List<Model.EventKind> reported, Instant lastReport) {
    static final Duration LASTED = Duration.ofMinutes(10), OVER = Duration.ofHours(1);

    static Incident open(Instant since, String reason, Instant now) {
        return new Incident(since, reason, 0, null, List.of(), now);
    }

    boolean isHealthy() { return healthySince != null; }
    boolean isHealthyFor(Duration time, Instant now) {
        return isHealthy() && !now.isBefore(healthySince.plus(time));
    }

    Incident relapsed() {
        return new Incident(since, reason, relapses + 1, null, reported, lastReport);
    }

    Incident healthy(Instant now) {
        return new Incident(since, reason, relapses, now, reported, lastReport);
    }

    Incident withReport(Model.EventKind kind, Instant now) {
        var kinds = Stream.concat(reported.stream(), Stream.of(kind)).toList();
        return new Incident(since, reason, relapses, healthySince, kinds, now);
    }
}

/**
 * What passes remember of a watch. {@code probe}: what it checks, which also a renamed watch does;
 * {@code reason}: why it is unhealthy or inconclusive, otherwise null; {@code recent}: the last
 * judged passes, u for unhealthy and h for healthy; {@code incident} null: there is none.
 */
record WatchState(String probe, String state, @Nullable String reason, Instant since,
                  String recent, boolean reportedInconclusive, @Nullable Incident incident,
                  List<RestartRecord> restarts) {
    private static final int KEPT = 100; // of restarts beyond the limit, for messages that count
    static final WatchState NEW =
        new WatchState("", "new", null, Instant.EPOCH, "", false, null, List.of());

    /** With this pass. Of the judged ones the last 2k-1 count for a threshold of k. */
    WatchState withPass(Verdict verdict, RestartPolicy policy, Instant now) {
        String passes = verdict.isJudged() ? recent + verdict.word().charAt(0) : recent;
        int dropped = Math.max(0, passes.length() - (2 * policy.failures() - 1));
        return new WatchState(probe, verdict.word(),
            verdict.exitCode() == 0 ? null : verdict.reason(),
            verdict.word().equals(state) ? since : now, passes.substring(dropped),
            reportedInconclusive, incident, restarts);
    }

    WatchState withProbe(String next) {
        return new WatchState(next, state, reason, since, recent, reportedInconclusive, incident,
            restarts);
    }

    /** It failed again in its incident: if that was soon, the last restart did not last. */
    WatchState relapsed(Instant now) {
        WatchState next = incident.isHealthyFor(Incident.LASTED, now) ? this
            : withLastResult(RestartRecord.NOT_LASTING);
        return next.withIncident(incident.relapsed());
    }

    /** When an incident is over, the passes before it no longer count for the threshold. */
    WatchState withIncident(Incident next) {
        return new WatchState(probe, state, reason, since, next == null ? "" : recent,
            reportedInconclusive, next, restarts);
    }

    /** By a person: the incident is over, and the restarts no longer count for the limit. */
    WatchState repaired(Instant now) {
        List<RestartRecord> all = restarts.stream().map(restart -> new RestartRecord(restart.at(),
            RestartRecord.ON_REQUEST, restart.what(), restart.result())).toList();
        return new WatchState(probe, "healthy", null, now, "", reportedInconclusive, null, all);
    }

    WatchState withReportedInconclusive(boolean reported) {
        return new WatchState(probe, state, reason, since, recent, reported, incident, restarts);
    }

    private WatchState withRestarts(List<RestartRecord> next) {
        return new WatchState(probe, state, reason, since, recent, reportedInconclusive, incident,
            next);
    }

    int failures() { return (int) recent.chars().filter(letter -> letter == 'u').count(); }

    RestartRecord lastRestart() {
        return restarts.isEmpty() ? null : restarts.get(restarts.size() - 1);
    }

    /** Those that count for the limit. */
    List<RestartRecord> restartsSince(Instant begin) {
        return restarts.stream().filter(restart -> !restart.at().isBefore(begin)
            && restart.remedy() != RestartRecord.ON_REQUEST).toList();
    }

    int restartsInWindow(RestartPolicy policy, Instant now) {
        return restartsSince(now.minus(policy.per()).plusMillis(1)).size();
    }

    /** The limit holds in any period; after that many that were useless the pause doubles. */
    Instant nextRestart(RestartPolicy policy) {
        List<RestartRecord> counted = restartsSince(Instant.EPOCH);
        int limit = policy.limit(), extra = sinceLastSuccess().size() - limit;
        Instant next = counted.size() < limit ? Instant.EPOCH
            : counted.get(counted.size() - limit).at().plus(policy.per());
        if (extra < 0) return next;
        Duration doubled = policy.per().multipliedBy(1L << Math.min(extra, 20));
        Duration longest = Collections.max(List.of(policy.per(), Duration.ofDays(1)));
        return counted.get(counted.size() - 1).at()
            .plus(Collections.min(List.of(longest, doubled)));
    }

    /** Whether a remedy was used to its end since the last restart that helped. */
    boolean hasUsed(int remedy) {
        return sinceLastSuccess().stream()
            .anyMatch(restart -> restart.remedy() == remedy && !restart.isPending());
    }

    /** The restarts of this incident after the last one that helped. */
    private List<RestartRecord> sinceLastSuccess() {
        if (incident == null) return List.of();
        List<RestartRecord> all = restartsSince(incident.since());
        int first = all.size();
        while (first > 0 && !all.get(first - 1).endedHealthy()) first--;
        return all.subList(first, all.size());
    }

    WatchState withRestart(RestartRecord restart, RestartPolicy policy) {
        List<RestartRecord> all = Stream.concat(restarts.stream(), Stream.of(restart)).toList();
        int dropped = Math.max(0, all.size() - policy.limit() - KEPT);
        return withRestarts(all.subList(dropped, all.size()));
    }

    /** The result of the last restart of this incident, if there was one. */
    WatchState withLastResult(String result) {
        List<RestartRecord> all = restartsSince(incident.since());
        RestartRecord last = all.isEmpty() ? null : all.get(all.size() - 1);
        return withRestarts(restarts.stream()
            .map(restart -> restart == last ? restart.withResult(result) : restart).toList());
    }
}

// === 2. The command line =======================================================================

/** A pass, and what all commands share; the other commands are in section 3. */
@Command(name = "watchdog", version = "watchdog " + watchdog.VERSION,
    sortOptions = false, usageHelpAutoWidth = true, abbreviateSynopsis = true,
    subcommands = {CheckCommand.class, ValidateCommand.class, StatusCommand.class,
        LogCommand.class, PauseCommand.class, ResumeCommand.class, TellCommand.class,
        RestartCommand.class},
    header = {"Checks the services in rules.groovy, restarts what is down, and notifies you.", "",
        "  watchdog                       one check-and-heal pass, as cron runs it",
        "  watchdog check                 check everything, change nothing",
        "  watchdog validate              find every mistake in the rules now",
        "  watchdog log --since 30d       what was down, and what was done about it",
        "  watchdog pause plex --for 2h   no checks and no restarts while you work on it",
        "  watchdog check https://example.com 'status == 200'",
        "                                 a one-off check without a rules file", ""},
    exitCodeListHeading = "%nExit codes:%n",
    exitCodeList = {"0:everything is healthy, or was healed in this pass",
        "1:something is unhealthy", "2:a mistake in the rules or on the command line",
        "3:inconclusive: a dependency is unhealthy, or a condition cannot be evaluated",
        "4:the pass could not do its own work", "75:another pass is running"})
public final class watchdog implements Callable<Integer> {
    static final String VERSION = "1.0.0";
    static final List<String> TOOLS = List.of("setup", "schedule", "report", "drill");

    @Parameters(arity = "0..*", paramLabel = "NAME",
        description = "Only these watches, and those that they depend on.")
    List<String> names = List.of();
    @Option(names = "--rules", paramLabel = "FILE", scope = ScopeType.INHERIT, description = {
        "The rules; default: rules.groovy here,", "or else in ~/.config/watchdog."})
    Path rules;
    @Option(names = "--state", paramLabel = "DIR", scope = ScopeType.INHERIT,
        description = "The folder for state; default: ~/.local/state/watchdog.")
    Path state;
    @Option(names = "--dry-run", description = "Print what a pass would do; change nothing.")
    boolean dryRun;
    @Option(names = "--json", scope = ScopeType.INHERIT, description = "Print JSON for programs.")
    boolean json;
    @Option(names = {"-q", "--quiet"}, scope = ScopeType.INHERIT,
        description = "Print only what is wrong and has changed since the last pass.")
    boolean quiet;
    @Option(names = {"-v", "--verbose"}, scope = ScopeType.INHERIT,
        description = "Print each step as it happens.")
    boolean verbose;
    @Option(names = {"-h", "--help"}, scope = ScopeType.INHERIT, usageHelp = true,
        description = "Show this help, or the help of a command.")
    boolean help;
    @Option(names = {"-V", "--version"}, versionHelp = true, description = "Print the version.")
    boolean version;

    final Environment env;

    watchdog(Environment env) { this.env = env; }

    public static void main(String... args) {
        System.exit(run(Environment.real(), args));
    }

    /** The same for a script in tools/, which is a command of the same name. */
    static void runTool(String name, String... args) {
        main(Stream.concat(Stream.of(name), Stream.of(args)).toArray(String[]::new));
    }

    /** The whole program except the exit, so that tests call what users call. */
    static int run(Environment env, String... args) {
        watchdog command = new watchdog(env);
        try {
            return command.parseCronArguments(args) ? command.call() : runPicocli(env, args);
        } catch (Throwable e) {
            return toExitCode(e, env, args);
        }
    }

    /** cron's line is parsed here: starting picocli would take a quarter of a healthy pass. */
    private boolean parseCronArguments(String... args) {
        for (int i = 0; i < args.length; i++) {
            String value = i + 1 < args.length ? args[i + 1] : "-";
            boolean path = args[i].matches("--rules|--state") && !value.startsWith("-");
            if (args[i].equals("--quiet")) quiet = true;
            else if (!path) return false;
            else if (args[i++].equals("--rules")) rules = Path.of(value);
            else state = Path.of(value);
        }
        return true;
    }

    private static int runPicocli(Environment env, String... args) {
        CommandLine line = commandLine(env);
        line.registerConverter(Duration.class, Text::parseDuration);
        line.setOut(new PrintWriter(env.out(), true));
        line.setErr(new PrintWriter(env.err(), true));
        line.setParameterExceptionHandler((e, given) -> toExitCode(e, env, args));
        line.setExecutionExceptionHandler((e, command, parsed) -> toExitCode(e, env, args));
        return line.execute(args);
    }

    /** The scripts in tools/ are commands too, where they are on the class path. */
    private static CommandLine commandLine(Environment env) {
        CommandLine line = new CommandLine(new watchdog(env));
        for (String tool : TOOLS) {
            try {
                line.addSubcommand(Class.forName(tool));
            } catch (ClassNotFoundException notHere) {
                continue;
            }
        }
        return line;
    }

    static Set<String> commands() { return commandLine(null).getSubcommands().keySet(); }

    @Override public Integer call() {
        Context context = new Context(env, this);
        PassCommand pass = new PassCommand(context);
        return context.run(() -> new PassLock(context).hold(() -> pass.run(names)));
    }

    @Command(description = "Show this help, the help of a command, or all words of the rules.")
    int help(@Parameters(arity = "0..1", paramLabel = "COMMAND | rules") String topic)
            throws IOException {
        if (topic == null) return runPicocli(env, "--help");
        Set<String> commands = commands();
        ExitException.mistakeIf(!topic.equals("rules") && !commands.contains(topic),
            "no command is called '" + topic + "'" + Text.didYouMean(topic, commands));
        if (!topic.equals("rules")) return runPicocli(env, topic, "--help");
        try (InputStream file = watchdog.class.getResourceAsStream("/reference.groovy")) {
            ExitException.mistakeIf(file == null, "the words of the rules are in the file"
                + " docs/reference.groovy of watchdog's repository");
            file.transferTo(env.out());
        }
        return 0;
    }

    @Command(description = "Print a completion script: source <(watchdog completion).")
    int completion() {
        env.out().print(AutoComplete.bash("watchdog", commandLine(env)));
        return 0;
    }

    /** Everything that goes wrong ends here: clear sentences and an exit code. */
    private static int toExitCode(Throwable thrown, Environment env, String... args) {
        ExitException exit = explain(thrown);
        exit.lines.forEach(env.err()::println);
        if (List.of(args).contains("--json"))
            env.out().println(Json.text(Json.fields("problems", exit.lines, "exit", exit.code)));
        return exit.code;
    }

    static ExitException explain(Throwable thrown) {
        if (thrown instanceof ExitException exit) return exit;
        if (thrown instanceof CommandLine.ParameterException mistake) return usage(mistake);
        if (thrown instanceof InvalidPathException path)
            return ExitException.mistake("watchdog: the current locale cannot represent the file"
                + " name '" + path.getInput() + "'; set LC_ALL=C.UTF-8");
        Throwable bug = thrown instanceof CommandLine.ExecutionException ? thrown.getCause()
            : thrown;
        if (Text.causes(bug).anyMatch(OutOfMemoryError.class::isInstance))
            return ExitException.failure("watchdog: out of memory ("
                + Text.plain(bug.getMessage(), 100) + "); do the rules collect too much?");
        return ExitException.failure("watchdog: a bug, please report it: "
            + Text.plain(bug.toString(), 300) + " at "
            + Text.plain(Arrays.toString(bug.getStackTrace()), 300));
    }

    private static ExitException usage(CommandLine.ParameterException mistake) {
        String text = uncapitalize(mistake.getMessage()), hint = "";
        if (mistake instanceof CommandLine.UnmatchedArgumentException unmatched) {
            String argument = unmatched.getUnmatched().get(0);
            if (!argument.startsWith("-")) text = "unexpected argument '" + argument + "'";
            boolean pause = mistake.getCommandLine().getCommandName().equals("pause");
            if (pause && argument.matches("\\d+[smhd]"))
                hint = "; did you mean --for " + argument + "?";
            else if (argument.endsWith(".groovy"))
                hint = "; did you mean --rules " + argument + "?";
            else if (!unmatched.getSuggestions().isEmpty())
                hint = "; did you mean " + unmatched.getSuggestions().get(0) + "?";
        }
        String synopsis = mistake.getCommandLine().getHelp().synopsis(0).strip();
        return ExitException.mistakes(List.of("watchdog: " + text + hint,
            "Usage: " + synopsis + "; see --help"));
    }
}

/** Everything that is taken from outside the program, so that tests can replace it. */
record Environment(Map<String, String> variables, Path cwd, Clock clock, PrintStream out,
                   PrintStream err, boolean terminal, IntConsumer halt) {
    static Environment real() {
        ProxySelector.setDefault(null); // or Java would use a SOCKS proxy
        return new Environment(System.getenv(), Path.of("").toAbsolutePath(), Clock.systemUTC(),
            utf8(FileDescriptor.out), utf8(FileDescriptor.err), System.console() != null,
            Runtime.getRuntime()::halt);
    }

    /** cron's locale is POSIX, but names and messages may be in any script. */
    private static PrintStream utf8(FileDescriptor descriptor) {
        return new PrintStream(new FileOutputStream(descriptor), true, StandardCharsets.UTF_8);
    }

    Path home() {
        String home = variables.getOrDefault("HOME", System.getProperty("user.home"));
        if (home.startsWith("/")) return Path.of(home);
        throw ExitException.failure("watchdog: HOME is not set, so there is no folder for state;"
            + " use --state DIR");
    }

    Path folder(String variable, String underHome) {
        String value = variables.getOrDefault(variable, "");
        return value.startsWith("/") ? Path.of(value) : home().resolve(underHome);
    }

    Instant now() { return clock.instant().truncatedTo(ChronoUnit.MILLIS); }

    /** The lookup of a name may hang. */
    String host() {
        if (variables.containsKey("WATCHDOG_HOST")) return variables.get("WATCHDOG_HOST");
        var name = DaemonThreads.POOL.submit(() -> SecureFiles.orElse(
            () -> InetAddress.getLocalHost().getHostName(), unknown -> "localhost"));
        return DaemonThreads.get(name, Duration.ofSeconds(2), "localhost");
    }
}

/** Thrown to end a command with messages and an exit code. */
final class ExitException extends RuntimeException {
    final int code;
    final List<String> lines;

    private ExitException(int code, List<String> lines) {
        super(String.join("\n", lines), null, false, false);
        this.code = code;
        this.lines = List.copyOf(lines);
    }

    static ExitException mistake(String line) { return mistakes(List.of(line)); }
    static ExitException mistakes(List<String> lines) { return new ExitException(2, lines); }
    static ExitException failure(String line) { return new ExitException(4, List.of(line)); }
    static ExitException busy(List<String> lines) { return new ExitException(75, lines); }

    ExitException masked(Secrets secrets) {
        return new ExitException(code, lines.stream().map(secrets::mask).toList());
    }

    static void mistakeIf(boolean wrong, String text) {
        if (wrong) throw mistake("watchdog: " + text);
    }

    /** Of two exit codes the more serious: 4, then 2, 1, 3, 0. */
    static int worst(int a, int b) {
        List<Integer> order = List.of(0, 3, 1, 2, 4);
        return order.indexOf(a) >= order.indexOf(b) ? a : b;
    }
}

// === 3. Commands ===============================================================================
// A Context finds the files; opening it loads the rules and the state. Then one class a command.

/** What a command has before it opens anything. */
final class Context {
    final CompletableFuture<OkHttpClient> client = HttpClients.load(); // takes longest
    final Environment env;
    final watchdog options;
    final Path namedFile, rulesFile, folder;
    final Secrets secrets;
    final Printer printer;
    String messagePrefix = ""; // of a drill
    boolean readOnly;
    List<String> problems = List.of(); // of the rules
    Future<?> end = CompletableFuture.completedFuture(null); // of what takes too long

    Context(Environment env, watchdog options) {
        this.env = env;
        this.options = options;
        namedFile = RulesLoader.find(options.rules, env);
        rulesFile = SecureFiles.orElse(namedFile::toRealPath, missing -> namedFile);
        secrets = new Secrets(env.variables(), rulesFile);
        printer = new Printer(env, options, secrets, ConcurrentHashMap.newKeySet());
        folder = stateFolder();
    }

    /** Runs a command, and says the mistakes of the rules; no secret is in what it throws. */
    int run(IntSupplier command) {
        try {
            int exit = command.getAsInt();
            problems.forEach(printer::problem);
            return exit;
        } catch (Throwable thrown) {
            throw watchdog.explain(thrown).masked(secrets);
        }
    }

    /** Without a writable folder a pass goes on with the state that it can still read. */
    private Path stateFolder() {
        Path parent = options.state != null ? env.cwd().resolve(options.state)
            : env.folder("XDG_STATE_HOME", ".local/state").resolve("watchdog");
        String name = rulesFile.getFileName().toString().replaceFirst("\\.groovy$", "");
        Path own = parent.resolve(name + "-" + Text.hash(rulesFile.toString()).substring(0, 8));
        try {
            SecureFiles.tidy(SecureFiles.folder(own), env.now(), printer::warn);
            return own;
        } catch (IOException | UnsupportedOperationException e) {
            readOnly = true;
            printer.warn("cannot use the state folder " + own + " (" + Text.thrown(e)
                + "), so restart limits and pauses may not hold, passes may overlap and messages"
                + " may be repeated; make it writable or use --state DIR");
            boolean readable = SecureFiles.orElse(() ->
                SecureFiles.isOurs(SecureFiles.trusted(own)), untrusted -> false);
            return readable ? own : Path.of("/dev/null", "state");
        }
    }

    /** If an edit has mistakes, the last working rules are used. */
    Workspace open(boolean writable) {
        CompiledRules compiled = new CompiledRules(folder.resolve("compiled"));
        String text = RulesLoader.read(namedFile);
        try {
            Rules rules = RulesLoader.load(rulesFile, text, env, secrets, compiled);
            return open(rules, false, rules.warnings(), writable);
        } catch (ExitException mistakes) {
            String lastGood = compiled.lastGood();
            if (lastGood == null || mistakes.code != 2) throw mistakes;
            List<String> problems = new ArrayList<>(mistakes.lines);
            problems.add("watchdog: " + rulesFile.getFileName()
                + " has mistakes; using the last working rules");
            Rules rules = RulesLoader.load(rulesFile, lastGood, env, secrets, compiled);
            return open(rules, true, problems, writable);
        }
    }

    /** {@code brokenRules}: the file has mistakes, and these are the last working rules. */
    Workspace open(Rules rules, boolean brokenRules, List<String> problems, boolean writable) {
        this.problems = problems;
        if (writable) endAt(rules.deadline());
        StateStore store = new StateStore(this, writable && !readOnly);
        CommandRunner runner = runner(rules,
            env.variables().getOrDefault("PATH", CommandRunner.CRON_PATH));
        Checker checker = new Checker(runner, client, env.clock());
        return new Workspace(this, rules, brokenRules, problems, store, runner,
            checker, new Notifier(this, store, checker, rules.hooks()));
    }

    /** Ends the program from outside: no child, response or script can hold the lock longer. */
    private void endAt(Duration deadline) {
        end.cancel(true);
        end = DaemonThreads.POOL.submit(() -> {
            Thread.sleep(deadline.plusSeconds(40).toMillis()); // to kill, to notify, to save
            env.err().println("watchdog: the pass was still running after its deadline of "
                + Text.time(deadline) + ", so watchdog ended it");
            env.halt().accept(4);
            return null;
        });
    }

    CommandRunner runner(Rules rules, String path) {
        secrets.forCommands.put("PATH", String.join(":", rules.path()) + ":" + path);
        return new CommandRunner(rulesFile.getParent(), folder, secrets.forCommands,
            Deadline.in(rules.deadline()));
    }

    /** For what only a person can mend. */
    <T> T orExit(String failed, SecureFiles.IOSupplier<T> action) {
        return SecureFiles.orElse(action, e -> {
            throw ExitException.failure("watchdog: " + failed + ": " + Text.thrown(e));
        });
    }
}

/** Rules, state, and what works with them; {@code problems}: mistakes of the rules, in words. */
record Workspace(Context context, Rules rules, boolean brokenRules, List<String> problems,
                 StateStore store, CommandRunner runner, Checker checker, Notifier notifier) {
    Instant now() { return context.env.now(); }
    int exitCode() { return problems.isEmpty() ? 0 : 2; }
}

/** A command; picocli sets its options and arguments. */
@Command(sortOptions = false, usageHelpAutoWidth = true, abbreviateSynopsis = true)
abstract class Subcommand implements Callable<Integer> {
    @ParentCommand watchdog options;
    Context context;

    @Override public Integer call() {
        context = new Context(options.env, options);
        return context.run(this::run);
    }

    /** Returns the exit code. */
    abstract int run();
}

/** One check-and-heal pass, as cron runs it. */
record PassCommand(Context context) {
    int run(List<String> names) {
        boolean dryRun = context.options.dryRun;
        Workspace work = context.open(!dryRun);
        List<Watch> watches = work.rules().select(names);
        return dryRun ? CheckCommand.check(work, watches) : heal(work, watches);
    }

    private int heal(Workspace work, List<Watch> watches) {
        reportRules(work);
        work.runner().tidyStarted();
        Collection<WatchResult> results = new Pass(work, watches).run();
        StateStore store = work.store();
        store.saveHistory(results);
        store.saveMetrics(work.rules(), results);
        work.notifier().send();
        boolean judged = results.stream().anyMatch(r -> !(r.verdict() instanceof Inconclusive));
        if (judged && work.rules().heartbeat() != null)
            work.notifier().heartbeat(work.rules().heartbeat());
        List<String> undelivered = work.notifier().finish(), problems = work.problems();
        boolean news = store.hasChanged("problemsHash", List.of(problems, undelivered).hashCode());
        boolean silent = context.options.quiet && !news;
        store.save();

        int exit = context.printer.results(results,
            context.printer.warned().isEmpty() ? work.exitCode() : 4);
        context.problems = List.of(); // printed here, before what was not delivered
        if (silent) return exit;
        problems.forEach(context.printer::problem);
        undelivered.forEach(context.printer::warn);
        return exit;
    }

    /** Broken rules once until they are good, and watches that were removed while down. */
    private void reportRules(Workspace work) {
        List<Model.Hook> hooks = work.rules().hooks();
        Instant now = work.now();
        if (work.store().hasChanged("brokenRules", work.brokenRules()) && work.brokenRules()) {
            String name = context.rulesFile.getFileName().toString();
            String mistake = work.problems().get(0).lines().findFirst().orElse("");
            work.notifier().post(new Model.Event(Model.EventKind.rules_broken, name,
                name + " has mistakes", "watchdog uses the last working rules. "
                + Text.plain(mistake, 400), now, now), hooks);
        }
        work.notifier().reassign(hooks);
        work.store().forget(work.rules().watches()).forEach((name, state) -> {
            Incident open = state.incident();
            if (open != null && !open.isHealthy()) work.notifier().post(new Model.Event(
                Model.EventKind.recovered, name, name + " is no longer watched", name
                + " was removed from the rules while it was down: " + open.reason() + ".", now,
                open.since()), hooks);
        });
    }
}

/** Held by a pass, a drill and a restart on request, so that only one of them runs at a time. */
record PassLock(Context context) {
    private static final Duration LONG = Duration.ofMinutes(15);
    private static final String REPORTED = "reported";

    int hold(IntSupplier work) {
        Path file = context.folder.resolve("lock");
        try (FileChannel lock = lock(file)) {
            return work.getAsInt();
        } catch (OverlappingFileLockException e) {
            throw busy(file);
        } catch (IOException e) {
            throw ExitException.failure("watchdog: cannot close the lock: " + Text.thrown(e));
        } finally {
            context.end.cancel(true);
        }
    }

    private FileChannel lock(Path file) {
        if (context.readOnly) return null;
        return SecureFiles.orElse(() -> SecureFiles.lock(file, context.env.now()), e -> {
            context.printer.warn("cannot lock " + file + ", so two passes may overlap");
            return null;
        });
    }

    /** With --quiet this is printed once, and only if the pass seems to hang: cron mails it. */
    private ExitException busy(Path lock) {
        String holder = SecureFiles.orElse(() -> SecureFiles.read(lock, 100), e -> "").strip();
        Instant since = Instant.ofEpochMilli(lock.toFile().lastModified());
        boolean reported = holder.endsWith(REPORTED);
        boolean hangs = reported || since.plus(LONG).isBefore(context.env.now());
        if (context.options.quiet && (reported || !hangs)) return ExitException.busy(List.of());
        if (hangs && !reported)
            SecureFiles.orElse(() -> SecureFiles.append(lock, REPORTED), e -> null);
        String text = "watchdog: another pass is running " + holder.replace(REPORTED, "").strip();
        return ExitException.busy(List.of(text.strip()
            + (hangs ? "; if it hangs, end it with kill -9" : "")));
    }
}

@Command(name = "check", description = {
    "Check and judge; no restarts, no messages, no state is saved.",
    "With a URL: a one-off check without rules, with the time of each phase."})
final class CheckCommand extends Subcommand {
    @Parameters(arity = "0..*", paramLabel = "NAME | URL [CONDITION]",
        description = "Watches, or a URL and conditions such as 'status == 401'.")
    List<String> targets = List.of();

    @Override int run() {
        if (!targets.isEmpty() && targets.get(0).contains("://"))
            return check(targets.get(0), targets.subList(1, targets.size()));
        return check(context, targets);
    }

    static int check(Context context, List<String> names) {
        Workspace work = context.open(false);
        return check(work, work.rules().select(names));
    }

    static int check(Workspace work, List<Watch> watches) {
        Collection<WatchResult> results = new Pass(work, watches).judge(watches);
        return work.context().printer.results(results, work.exitCode());
    }

    /** A URL and conditions, without a rules file. */
    private int check(String url, List<String> conditions) {
        options.verbose = true;
        ExitException.mistakeIf(conditions.stream().anyMatch(word -> word.matches("\\s*|http.*")),
            "check takes one URL and conditions, for example 'status == 200'");
        String quoted = "'" + url.replace("\\", "\\\\").replace("'", "\\'") + "'";
        String name = "'" + Text.plain(Text.redactedUrl(url), 60).replaceAll("['\\\\]", "") + "'";
        String healthy = conditions.isEmpty() ? ""
            : "healthy {\n" + String.join("\n", conditions) + "\n}";
        String text = "watch(" + name + ") { url " + quoted + "; attempts 1; " + healthy + "}";
        // So "argument:2:1" is the first column of the second argument.
        Rules rules = RulesLoader.load(Path.of("argument"), text, context.env, context.secrets,
            new CompiledRules(context.folder.resolve("one-off")));
        return check(context.open(rules, false, List.of(), false), rules.watches());
    }
}

@Command(name = "validate",
    description = "Find every mistake in the rules, and print them in words.")
final class ValidateCommand extends Subcommand {
    /** Words of the shell itself. */
    private static final String OF_SHELL = "if|for|while|until|case|cd|exec|export|set|trap|ulimit"
        + "|umask|eval|exit|read|wait|command|unset|\\.|:";
    private final List<String> problems = new ArrayList<>();
    private CommandRunner runner; // with cron's PATH, not with that of this terminal

    @Override int run() {
        Rules rules = RulesLoader.load(context.rulesFile, RulesLoader.read(context.namedFile),
            context.env, context.secrets, new CompiledRules(Path.of("/dev/null/none")));
        return context.printer.validated(context.rulesFile, rules, problems(rules));
    }

    List<String> problems(Rules rules) {
        runner = context.runner(rules, CommandRunner.CRON_PATH);
        problems.addAll(rules.warnings());
        rules.watches().forEach(this::validate);
        return problems;
    }

    private void validate(Watch watch) {
        String place = context.rulesFile.getFileName() + ": " + watch.name() + ": ";
        watch.steps().forEach(step -> {
            validate(place + step.inWords() + ": ", step.command(), !step.isStop());
            if (step.isStop()) context.printer.progress(place + step.inWords()
                + ProcessStopper.of(runner, watch, step.command()).preview());
        });
        if (watch.probe() instanceof CommandProbe probe)
            validate(place + probe.inWords() + ": ", probe.words(), true);
        watch.hooks().stream().flatMap(Model.Hook::withFallback).forEach(hook -> {
            if (hook.sender() instanceof CommandSender sender)
                validate(place + "notify command: ", sender.words(), true);
        });
    }

    private void validate(String place, List<String> command, boolean runs) {
        boolean shell = command.size() == 3 && command.get(1).equals("-c")
            && Text.program(command).endsWith("sh");
        command.stream().filter(word -> !shell
            && word.matches("[|&;<>]+|2>(&1)?|.+;|~(/.*)?|[$]\\w+(/.*)?")).findFirst()
            .ifPresent(word -> problems.add(place + "no shell runs here, so '" + word + "' stays"
                + " as it is; " + adviceFor(word)));
        List<String> words = shell ? firstProgram(command.get(2)) : command;
        try {
            if (!runs || words.isEmpty()) return;
            runner.resolve(words.get(0));
            if (Text.program(words).equals("sudo")) validateSudo(place, words);
        } catch (IllegalStateException e) {
            problems.add(place + "under cron, " + e.getMessage());
        }
    }

    private String adviceFor(String word) {
        if (word.startsWith("~")) return "write " + context.env.home() + word.substring(1);
        if (word.equals("&")) return "leave it out: start runs a program in the background";
        return "write sh '…', or begin the command with sh -c";
    }

    /** The words of a shell script up to the first sign of the shell; empty: no program. */
    private static List<String> firstProgram(String script) {
        String begin = script.strip().replaceFirst("^(\\w+=(\\$\\(.*?\\)|\\S)*\\s+)+", "")
            .replaceFirst("(?s)\\s*[;&|<>()'\"`$\n].*", "");
        List<String> words = List.of(begin.split("\\s+"));
        boolean program = words.get(0).matches("(?!(" + OF_SHELL + ")$)[\\w./+-]+");
        return program ? words : List.of();
    }

    /** Under cron nobody can type a password. */
    private void validateSudo(String place, List<String> words) {
        List<String> command = words.stream().skip(1).dropWhile("-n"::equals).toList();
        if (command.isEmpty()) return;
        if (!words.get(1).equals("-n"))
            problems.add(place + "sudo would ask for a password; write sudo -n");
        if (command.get(0).startsWith("-")) return; // for another user
        String rest = String.join(" ", command.subList(1, command.size()));
        context.printer.progress(place + "add to sudoers: " + System.getProperty("user.name")
            + " ALL=(root) NOPASSWD: " + runner.resolve(command.get(0)) + " "
            + (rest.isEmpty() ? "\"\"" : rest.replaceAll("[,:=\\\\]", "\\\\$0")));
    }
}

@Command(name = "status",
    description = "State, last restart, restart limit, uptime, undelivered messages.")
final class StatusCommand extends Subcommand {
    @Parameters(arity = "0..*", paramLabel = "NAME",
        description = "Only these watches, and those that they depend on.")
    List<String> names = List.of();

    @Override int run() {
        Workspace work = context.open(false);
        List<WatchStatus> all = work.rules().select(names).stream()
            .map(watch -> status(watch, work.store(), work.now())).toList();
        context.printer.status(all, work.store(), context.namedFile);
        return 0;
    }

    static WatchStatus status(Watch watch, StateStore store, Instant now) {
        WatchState state = store.of(watch);
        RestartPolicy policy = watch.policy();
        Instant paused = store.pausedUntil(watch.name());
        List<Span> spans = store.history().spans(watch.name());
        Map<String, Double> uptime = new LinkedHashMap<>();
        for (String time : List.of("24h", "7d", "30d", "90d"))
            uptime.put(time, Span.uptime(spans, now.minus(Text.parseDuration(time)), now));
        Instant next = state.nextRestart(policy);
        int left = policy.limit() - state.restartsInWindow(policy, now);
        boolean resumed = paused == null && state.state().equals("paused");
        return new WatchStatus(watch.name(),
            paused != null ? "paused" : resumed ? "resumed" : state.state(),
            resumed || state == WatchState.NEW ? null : state.since(), paused,
            paused != null ? null : state.reason(), state.lastRestart(),
            Math.max(0, left), policy.limit(), watch.remedies().isEmpty() ? null : policy.per(),
            uptime, spans.isEmpty() ? null : Duration.between(spans.get(0).from(), now),
            next.isAfter(now) ? next : null);
    }
}

@Command(name = "log",
    description = "What was down: one line for each incident, the newest last.")
final class LogCommand extends Subcommand {
    @Parameters(arity = "0..*", paramLabel = "NAME", description = "Only these watches.")
    List<String> names = List.of();
    @Option(names = "--since", paramLabel = "TIME", defaultValue = "7d",
        description = "For example 12h or 30d; default: ${DEFAULT-VALUE}.")
    Duration since;

    @Override int run() {
        Workspace work = context.open(false);
        names.forEach(work.rules()::get);
        Instant begin = work.now().minus(since);
        context.printer.log(work.store().log().stream()
            .filter(entry -> names.isEmpty() || names.contains(entry.first().watch()))
            .filter(entry -> entry.down() || entry.last().at().isAfter(begin)).toList(), begin);
        return 0;
    }
}

@Command(name = "pause", description = "Pause a watch: no checks, no restarts.")
final class PauseCommand extends Subcommand {
    @Parameters(paramLabel = "NAME") String name;
    @Option(names = "--for", paramLabel = "TIME",
        description = "For example 30m or 2h; default: until resume.")
    Duration time;

    @Override int run() {
        Workspace work = context.open(false);
        work.rules().get(name);
        Instant until = time == null ? Text.FOREVER : work.now().plus(time);
        context.orExit("cannot save the pause", () -> work.store().pause(name, until));
        context.printer.say(name + " is paused " + Text.until(until) + "; end the pause with: "
            + "watchdog resume " + Text.command(List.of(name)), "name", name, "pausedUntil", until);
        return 0;
    }
}

@Command(name = "resume", description = "End a pause.")
final class ResumeCommand extends Subcommand {
    @Parameters(paramLabel = "NAME") String name;

    @Override int run() {
        Workspace work = context.open(false);
        work.rules().get(name);
        boolean paused = context.orExit("cannot end the pause", () -> work.store().resume(name));
        context.printer.say(name + (paused ? " is watched again" : " was not paused"),
            "name", name, "wasPaused", paused);
        return 0;
    }
}

@Command(name = "tell",
    description = "Send a test message through each notify line, and print the result.")
final class TellCommand extends Subcommand {
    @Parameters(arity = "0..1", paramLabel = "NAME") String name;

    @Override int run() {
        Workspace work = context.open(false);
        List<Model.Hook> used = name == null ? work.rules().hooks()
            : work.rules().get(name).hooks();
        List<Model.Hook> hooks =
            used.stream().flatMap(Model.Hook::withFallback).distinct().toList();
        Instant now = context.env.now();
        Model.Event test = new Model.Event(Model.EventKind.test, name == null ? "watchdog" : name,
            "test from watchdog", "If you can read this, this notification works.", now, now);

        int exit = work.exitCode();
        for (Model.Hook hook : hooks) {
            DeliveryResult result = work.notifier().attempt(hook.sender(), test);
            context.printer.say(hook.label() + ": " + result.text(), "hook", hook.label(),
                "accepted", result.accepted());
            if (!result.accepted()) exit = ExitException.worst(exit, 1);
        }
        if (hooks.isEmpty()) context.printer.say("there is no "
            + (work.problems().isEmpty() ? "" : "usable ") + "notify line in the rules"
            + (name == null ? "" : " for " + name));
        return exit;
    }
}

/** Restarts also a healthy service. */
@Command(name = "restart",
    description = "Restart a service now, and check that it is healthy again.")
final class RestartCommand extends Subcommand {
    @Parameters(paramLabel = "NAME") String name;

    @Override int run() {
        return new PassLock(context).hold(() -> {
            Workspace work = context.open(true);
            Watch watch = work.rules().get(name);
            ExitException.mistakeIf(watch.steps().findAny().isEmpty(), name
                + " has no restart in the rules");
            WatchResult result = new Pass(work, List.of(watch)).restartNow(watch);
            boolean failed = result.restart.hasFailed();
            String check = result.isHealthy() ? " is healthy"
                : " is not healthy (" + result.verdict().reason() + ")";
            String proof = failed ? "; the restart failed: "
                : ", " + Text.time(result.healTime) + " after the restart: ";
            Instant paused = work.store().pausedUntil(name);
            context.printer.say(name + check + proof + result.restart.inWords()
                + (paused == null ? "" : "; it is still paused " + Text.until(paused)), "name",
                name, "healthy", result.isHealthy(), "restarted", !failed);
            work.notifier().finish().forEach(context.printer::warn);
            return result.isHealthy() && !failed ? 0 : 1;
        });
    }
}

// === 4. The pass ===============================================================================
// 1. check every watch, side by side; 2. judge: a response has a verdict; 3. decide, save, report
// what is down; 4. restart what is due, the longest without a restart first; 5. check again until
// it is healthy or `within` is over; 6. save, report how it ended.

/** What became of one watch in a pass. */
final class WatchResult {
    final Watch watch;
    CheckResult check;
    Decision decision;
    RestartRun restart;
    Deadline within;
    String reasonBefore = "", actions = "";
    Duration healTime = Duration.ZERO;
    Instant lastHealthy;
    boolean healed, changed;

    WatchResult(Watch watch) { this.watch = watch; }

    Verdict verdict() { return check.verdict(); }
    boolean isHealthy() { return check.isHealthy(); }
    boolean needsRestart() { return decision.remedy() >= 0; }

    /** What --quiet prints: something is wrong, or was healed, and the last pass did not say so. */
    boolean isNews() {
        boolean wrong = healed || verdict().exitCode() != 0;
        return wrong && (changed || !actions.isEmpty() || !decision.events().isEmpty());
    }

    Model.Remedy remedy() { return watch.remedies().get(decision.remedy()); }
}

/** The last response, and what it means. */
record CheckResult(Response response, Verdict verdict) {
    static CheckResult without(Verdict verdict) {
        Exchange none = new Exchange(Duration.ZERO);
        return new CheckResult(none.failed(Model.Failure.none, ""), verdict);
    }

    boolean isHealthy() { return verdict instanceof Healthy; }
}

/** One pass over watches, each of which stands below its dependencies. */
final class Pass {
    private final Workspace work;
    private final List<Watch> watches;
    private final StateStore store;
    private final Map<String, WatchResult> results = new LinkedHashMap<>();
    private final Map<List<Step>, RestartRun> restarts = new IdentityHashMap<>();

    Pass(Workspace work, List<Watch> watches) {
        this.work = work;
        this.watches = watches;
        this.store = work.store();
    }

    Collection<WatchResult> run() {
        for (List<Watch> round = watches; !round.isEmpty(); round = unblocked()) {
            judge(round);
            store.save();
            work.notifier().send();
            restart(round);
        }
        return results.values();
    }

    /** Checks, judges, decides, and posts the messages; run() saves. A dry run ends here. */
    Collection<WatchResult> judge(List<Watch> round) {
        Map<Watch, CheckResult> checks = new HashMap<>();
        for (Watch watch : round) {
            Instant until = store.pausedUntil(watch.name());
            if (until != null) checks.put(watch,
                CheckResult.without(new Paused(Text.until(until))));
        }
        checks.putAll(work.checker().parallel(round.stream()
            .filter(watch -> !checks.containsKey(watch)).toList(), Checker::check));
        for (Watch watch : round) {
            WatchResult result = new WatchResult(watch);
            results.put(watch.name(), result);
            result.check = considerDependencies(watch, checks.get(watch));
            WatchState state = store.of(watch);
            result.changed = !result.verdict().word().equals(state.state());
            applyDecision(result, result.verdict().decide(watch.policy(), state, work.now()));
        }
        return results.values();
    }

    private CheckResult considerDependencies(Watch watch, CheckResult check) {
        WatchResult dependency =
            check.verdict().exitCode() == 0 ? null : unhealthyDependency(watch);
        if (dependency == null) return check;
        String reason = "needs " + dependency.watch.name() + ", which is "
            + dependency.verdict().word();
        boolean notifies = !dependency.watch.hooks().isEmpty();
        return new CheckResult(check.response(), new Inconclusive(reason, true, notifies));
    }

    /** The first dependency that is unhealthy or inconclusive, or null; a paused one is neither. */
    private WatchResult unhealthyDependency(Watch watch) {
        return watch.dependencies().stream().map(results::get)
            .filter(result -> result != null && result.verdict().exitCode() != 0)
            .findFirst().orElse(null);
    }

    /** Watches whose dependency was healed in this pass: they are checked once more. */
    private List<Watch> unblocked() {
        return watches.stream().filter(watch -> unhealthyDependency(watch) == null
            && results.get(watch.name()).decision.action() == Action.blocked).toList();
    }

    /** Runs the remedies in turn, and then waits for all services together. */
    private void restart(List<Watch> round) {
        // The longest without a restart first: a pass that met its deadline is continued.
        List<WatchResult> due = round.stream().map(watch -> results.get(watch.name()))
            .filter(WatchResult::needsRestart)
            .sorted(Comparator.comparing(result -> store.of(result.watch).lastRestart(),
                Comparator.nullsFirst(Comparator.comparing(RestartRecord::at)))).toList();
        if (due.isEmpty()) return;
        String names = Text.list(due.stream().map(result -> result.watch.name()).toList());
        Runnable warning = () -> work.context().printer.warn("interrupted while it restarted "
            + names + "; the next pass goes on with that");
        DaemonThreads.onSignal(warning, () -> startAndWait(due)).forEach(this::recordResult);
        store.save();
        work.notifier().send();
    }

    private List<WatchResult> startAndWait(List<WatchResult> due) {
        List<WatchResult> started = new ArrayList<>();
        for (WatchResult result : due)
            if (startRestart(result)) started.add(result);
        waitUntilHealthy(started);
        return started;
    }

    /** False if it was not started, and so does not count. */
    private boolean startRestart(WatchResult result) {
        Model.Remedy remedy = result.remedy();
        result.restart = restarts.get(remedy.steps());
        if (store.pausedUntil(result.watch.name()) != null) return skip(result, "paused meanwhile");
        if (result.restart == null) {
            if (work.runner().deadline().passed())
                return skip(result, "the pass reached its deadline before its restart");
            recordIntent(result);
            runRestart(result, remedy);
            restarts.put(remedy.steps(), result.restart);
        }
        result.within = work.runner().deadline().sooner(result.watch.policy().within());
        return true;
    }

    private void runRestart(WatchResult result, Model.Remedy remedy) {
        Consumer<String> progress = work.context().printer::progress;
        progress.accept(result.watch.name() + ": restarting");
        result.restart = new RestartRun(work.runner(), result.watch)
            .run(remedy.steps(), progress);
        if (!result.restart.hasFailed()) progress.accept(result.watch.name()
            + ": checking until it is healthy, for up to "
            + Text.time(result.watch.policy().within()));
    }

    private boolean skip(WatchResult result, String why) {
        result.decision = Decision.noRestart(Action.held, why, store.of(result.watch));
        return false;
    }

    /**
     * Saved before the first step, so that a restart counts even if the pass is killed; it counts
     * for the limit of each watch that names the remedy.
     */
    private void recordIntent(WatchResult due) {
        List<Step> steps = due.remedy().steps();
        for (Watch watch : work.rules().watches())
            for (int i = 0; i < watch.remedies().size(); i++) {
                if (watch.remedies().get(i).steps() != steps) continue;
                WatchResult result = results.get(watch.name());
                boolean isDue = result != null && result.needsRestart()
                    && result.remedy().steps() == steps;
                RestartRecord record = new RestartRecord(work.now(),
                    isDue ? result.decision.remedy() : i, due.remedy().inWords(),
                    isDue ? null : "was for " + due.watch.name());
                store.put(watch, store.of(watch).withRestart(record, watch.policy()));
                break;
            }
        store.save();
    }

    /** With the restart for the present cause, or else for any. If it helps, an incident ends. */
    WatchResult restartNow(Watch watch) {
        WatchResult result = new WatchResult(watch);
        results.put(watch.name(), result);
        result.check = work.checker().attempt(watch);
        List<Model.Remedy> all = watch.remedies().stream()
            .filter(remedy -> !remedy.steps().isEmpty()).toList();
        Model.Remedy remedy = result.verdict() instanceof Unhealthy unhealthy
            && !unhealthy.remedies().isEmpty() ? watch.remedies().get(unhealthy.remedies().get(0))
            : all.stream().filter(any -> any.when() == null).findFirst().orElse(all.get(0));
        runRestart(result, remedy);
        result.within = work.runner().deadline().sooner(watch.policy().within());
        waitUntilHealthy(List.of(result));
        recordRequest(result, remedy);
        store.save();
        work.notifier().send();
        return result;
    }

    private void recordRequest(WatchResult result, Model.Remedy remedy) {
        RestartRecord record = new RestartRecord(work.now(), RestartRecord.ON_REQUEST,
            remedy.inWords(), result.restart.result(result.isHealthy()));
        WatchState state = store.of(result.watch);
        boolean helped = result.isHealthy() && !result.restart.hasFailed();
        store.put(result.watch, (helped ? state.repaired(work.now()) : state)
            .withRestart(record, result.watch.policy()));

        result.actions = "restarted on request: " + result.restart.inWords();
        Incident open = state.incident();
        if (open != null && helped && (!open.isHealthy() || open.relapses() > 0))
            work.notifier().post(MessageText.about(Model.EventKind.recovered, result,
                open.healthy(work.now()), work.now()), result.watch.hooks());
    }

    /** Polls at growing intervals until each is healthy, or its `within` has passed. */
    private void waitUntilHealthy(List<WatchResult> restarted) {
        List<WatchResult> waiting = restarted;
        for (long pause = 50; !waiting.isEmpty(); pause = Math.min(pause * 9 / 8, 2_000)) {
            List<Watch> unhealthy = waiting.stream().map(result -> result.watch).toList();
            work.checker().parallel(unhealthy, Checker::attempt).forEach((watch, check) -> {
                WatchResult result = results.get(watch.name());
                result.check = check;
                result.healTime = Duration.ofNanos(System.nanoTime() - result.restart.began);
            });
            waiting = waiting.stream().filter(result -> !result.isHealthy()
                && !result.within.passed() && !result.restart.hasFailed()).toList();
            if (!waiting.isEmpty()) work.runner().deadline().sleep(Duration.ofMillis(pause));
        }
    }

    private void recordResult(WatchResult result) {
        result.actions = result.restart.inWords();
        result.healed = result.isHealthy();
        WatchState state = store.of(result.watch);
        Decision after = Decision.noRestart(Action.restarted, "", state);
        boolean cutShort = result.within.equals(work.runner().deadline());
        if (cutShort && !result.healed && !result.restart.hasFailed()) // the next pass goes on
            after = after.afterRestart(RestartRecord.WAITING, work.now());
        else if (result.verdict() instanceof Unhealthy)
            after = after.afterRestart(result.restart.result(false), work.now());
        else after = result.verdict().decide(result.watch.policy(), result.healed ? state
            : state.withLastResult("result unknown"), work.now());
        applyDecision(result, after.withAction(Action.restarted, "", -1));
    }

    /** State and messages change together, in one file. */
    private void applyDecision(WatchResult result, Decision decision) {
        result.decision = decision;
        Watch watch = result.watch;
        if (result.needsRestart()) result.reasonBefore = result.verdict().reason();
        if (decision.events().contains(Model.EventKind.down))
            result.lastHealthy = store.history().lastHealthy(watch.name());

        synchronized (store) { // the thread of a hook may save in between
            Incident before = store.of(watch).incident(), after = decision.state().incident();
            Incident incident = after == null ? before : after;
            store.put(watch, decision.state());
            Incident unclear = Incident.open(decision.state().since(), "", work.now());
            for (Model.EventKind kind : decision.events()) work.notifier().post(
                MessageText.about(kind, result, kind == Model.EventKind.inconclusive ? unclear
                    : incident, work.now()), watch.hooks());
        }
    }
}

// === 5. Checks =================================================================================
// Each check opens a new connection. The watch's timeout limits its time; a body ends at 1 MiB.

/** Checks watches side by side, and judges their responses by the conditions of the rules. */
record Checker(CommandRunner runner, CompletableFuture<OkHttpClient> client, Clock clock) {
    private static final int MAX_STARTING = 64;
    private static final Duration SLOW = Duration.ofSeconds(3);
    private static final CheckResult DEADLINE_REACHED = inconclusive(
        "the pass reached its deadline before this check ended; raise deadline");

    private static CheckResult inconclusive(String why) {
        return CheckResult.without(new Inconclusive(why, false));
    }

    /** Side by side. A check that is slow goes on, and no longer keeps others waiting. */
    Map<Watch, CheckResult> parallel(List<Watch> all,
                                     BiFunction<Checker, Watch, CheckResult> check) {
        ExecutorService places = Executors.newFixedThreadPool(MAX_STARTING, DaemonThreads::thread);
        Map<Watch, CompletableFuture<CheckResult>> running = new LinkedHashMap<>();
        for (Watch watch : all) running.put(watch, new CompletableFuture<>());
        running.forEach((watch, result) -> places.submit(() -> DaemonThreads.get(
            result.completeAsync(() -> check.apply(this, watch), DaemonThreads.POOL), SLOW, null)));
        places.shutdown();

        Instant began = clock.instant();
        long nanos = System.nanoTime();
        Map<Watch, CheckResult> results = new LinkedHashMap<>();
        running.forEach((watch, result) -> results.put(watch,
            DaemonThreads.get(result, runner.deadline().left(), DEADLINE_REACHED)));
        Duration clocks = Duration.between(began, clock.instant());
        if (clocks.minusNanos(System.nanoTime() - nanos).abs().toSeconds() > 30)
            results.replaceAll((watch, result) -> result.isHealthy() ? result
                : inconclusive("this machine slept, or its clock was set"));
        return results;
    }

    /** A failed check is repeated before it counts. */
    CheckResult check(Watch watch) {
        CheckResult result = attempt(watch);
        int attempts = watch.settings().attempts();
        for (int i = 1; i < attempts && result.verdict() instanceof Unhealthy; i++) {
            runner.deadline().sleep(watch.settings().every());
            result = attempt(watch);
        }
        return result;
    }

    /** Without a further attempt; takes samples until the outcome is certain. */
    CheckResult attempt(Watch watch) {
        int samples = watch.settings().samples(), needed = watch.settings().good();
        int good = 0, bad = 0;
        CheckResult result;
        do {
            result = checkWithTimeout(watch);
            if (result.isHealthy()) good++;
            else bad++;
        } while (result.verdict().isJudged() && good < needed && bad <= samples - needed);

        if (samples == 1 || !(result.verdict() instanceof Unhealthy last)) return result;
        String counts = " (" + bad + " of " + (bad + good) + " checks failed)";
        return new CheckResult(result.response(), new Unhealthy(last.reason() + counts,
            last.diagram(), last.remedies(), last.whyNoRemedy()));
    }

    /** Each in its own thread, so that a hanging DNS lookup or condition can be abandoned. */
    private CheckResult checkWithTimeout(Watch watch) {
        if (runner.deadline().passed()) return DEADLINE_REACHED;
        Duration limit = watch.settings().timeout();
        Exchange exchange = new Exchange(limit);
        try {
            var probe = DaemonThreads.POOL.submit(() -> watch.probe().check(this, exchange));
            // A command that is late is killed in these 5 seconds.
            Response ended = DaemonThreads.get(probe, limit.plusSeconds(5), null);
            Response response =
                ended == null ? exchange.failed(new SocketTimeoutException()) : ended;
            var verdict = DaemonThreads.POOL.submit(() -> verdict(watch, response));
            return new CheckResult(response.shortened(), DaemonThreads.get(verdict, limit,
                new Inconclusive("the conditions took longer than " + Text.time(limit), false)));
        } catch (RuntimeException thrown) { // not the fault of the service
            return inconclusive("cannot be checked: " + Text.thrown(thrown));
        }
    }

    private static Verdict verdict(Watch watch, Response response) {
        FailedCondition failed = firstFailure(watch, response);
        // If the response is good, the condition may be wrong.
        boolean unclear = response.failure() == Model.Failure.denied
            || failed != null && failed.thrown() && response.isHealthyByDefault();
        if (unclear) return new Inconclusive(failed.reason(), false);
        if (failed != null) return unhealthy(watch, response, failed);
        String result = switch (response.protocol()) {
            case "tcp" -> "connected";
            case "command" -> "exit code " + response.status();
            default -> String.valueOf(response.status());
        };
        return new Healthy(result + " in " + Text.time(response.time()));
    }

    private static FailedCondition firstFailure(Watch watch, Response response) {
        if (response.failure() != Model.Failure.none) {
            boolean certificate = response.failure() == Model.Failure.tls
                && response.failureText().startsWith("the certificate");
            return new FailedCondition(response.failureText(), null, certificate, false);
        }
        if (watch.healthy() != null) return watch.healthy().firstFailure(response);
        if (response.isHealthyByDefault()) return null;
        return new FailedCondition((response.protocol().equals("command")
            ? "expected exit code 0, but it was " : "expected status in 200..299, but status was ")
            + response.status() + response.got(true), null, false, false);
    }

    /** With the remedy for this cause, or else those for any cause, to be used in turn. */
    private static Unhealthy unhealthy(Watch watch, Response response, FailedCondition failed) {
        List<Integer> usable = new ArrayList<>();
        String reason = failed.reason();
        for (int i = 0; i < watch.remedies().size(); i++) {
            Model.Remedy remedy = watch.remedies().get(i);
            List<Integer> index = remedy.steps().isEmpty() ? List.of() : List.of(i);
            if (remedy.when() == null) {
                if (!failed.ofCertificate()) usable.addAll(index);
                continue;
            }
            FailedCondition other = remedy.when().firstFailure(response);
            if (other == null) return new Unhealthy(reason, failed.diagram(), index,
                "your rules say not to restart for this cause");
            if (other.thrown() && response.failure() == Model.Failure.none)
                reason += "; of `when`, " + other.reason();
        }
        String why = failed.ofCertificate() ? "a restart does not renew a certificate"
            : "your rules have no restart for this cause";
        return new Unhealthy(reason, failed.diagram(), usable,
            watch.remedies().isEmpty() ? "" : why);
    }
}

/** GET a URL, or the request that `method` and `send` describe. */
record HttpProbe(Request request, RedirectPolicy redirects, Path trust,
                 InetSocketAddress connectTo) implements Probe {
    static final int MAX_BYTES = 1 << 20;
    private static final int MAX_REDIRECTS = 10;

    public String inWords() {
        return request.method() + " " + Text.redactedUrl(request.url().toString());
    }

    public Response check(Checker checker, Exchange exchange) {
        OkHttpClient client = HttpClients.trust(checker.client().join(), trust);
        Request next = request;
        try {
            for (int i = 0; i <= MAX_REDIRECTS; i++) {
                HttpUrl url = next.url();
                try (var response = call(client, next, exchange).execute()) {
                    next = redirects.next(url, response);
                    if (next == null) return read(response, url, exchange);
                }
            }
            return exchange.failed(Model.Failure.closed,
                "more than " + MAX_REDIRECTS + " redirects");
        } catch (IOException | RuntimeException | CertificateException thrown) {
            return exchange.failed(thrown);
        }
    }

    /** By a new connection, to prove that connecting works. 0 ms would be no limit for OkHttp. */
    private Call call(OkHttpClient client, Request next, Exchange exchange) {
        HttpUrl url = next.url();
        Request.Builder sent = next.newBuilder();
        if (next.header("User-Agent") == null)
            sent.header("User-Agent", "watchdog/" + watchdog.VERSION);
        if (next.header("Authorization") == null && !url.username().isEmpty())
            sent.header("Authorization", Credentials.basic(url.username(), url.password()));
        OkHttpClient.Builder builder = client.newBuilder();
        if (connectTo != null && url.host().equals(request.url().host())) {
            builder.dns(host -> Dns.SYSTEM.lookup(connectTo.getHostString()));
            sent.header("Host", url.uri().getAuthority().replaceFirst(".*@", ""))
                .url(url.newBuilder().port(connectTo.getPort()).build());
        }
        return builder.eventListener(exchange).callTimeout(exchange.deadline.left().plusMillis(1))
            .connectionPool(new ConnectionPool(0, 1, TimeUnit.MILLISECONDS)).build()
            .newCall(sent.build());
    }

    private Response read(okhttp3.Response response, HttpUrl url, Exchange exchange)
            throws IOException, CertificateException {
        String body = response.peekBody(MAX_BYTES).string();
        Handshake tls = response.handshake();
        List<Certificate> chain = tls == null ? List.of() : tls.peerCertificates();
        if (trust != null) // Java does not check the dates of what it is told to trust
            for (Certificate each : chain) ((X509Certificate) each).checkValidity();
        X509Certificate certificate = chain.isEmpty() ? null : (X509Certificate) chain.get(0);
        return exchange.ended(response.code(), response.headers(), body, url.toString(),
            response.protocol().toString(), certificate);
    }
}

/** Which redirects are followed: a login page on another host is no answer of the service. */
enum RedirectPolicy {
    none, sameHost, any;

    /** The next request; null: this response is the one to judge. */
    Request next(HttpUrl from, okhttp3.Response response) {
        String location = response.header("Location");
        if (this == none || location == null || !response.isRedirect()) return null;
        HttpUrl to = from.resolve(location);
        if (to == null || from.isHttps() && !to.isHttps()) return null;
        if (!to.host().equals(from.host())) // without credentials
            return this == any ? new Request.Builder().url(to).build() : null;
        Request.Builder next = response.request().newBuilder().url(to);
        boolean sent = response.request().body() != null; // of these, 307 and 308 send it again
        return sent && response.code() < 307 ? next.get().build() : next.build();
    }
}

/** Healthy when the port accepts a connection, at any address of the host. */
record TcpProbe(InetSocketAddress address) implements Probe {
    public String inWords() { return "connect to " + Text.address(address); }

    public Response check(Checker checker, Exchange exchange) {
        exchange.host = address.getHostString();
        exchange.dnsStart(null, exchange.host);
        try {
            List<InetAddress> all = Dns.SYSTEM.lookup(exchange.host);
            for (int i = 0; ; i++) {
                var to = new InetSocketAddress(all.get(i), address.getPort());
                exchange.connectStart(null, to, null);
                try (Socket socket = new Socket(Proxy.NO_PROXY)) {
                    long left = exchange.deadline.left().toMillis();
                    socket.connect(to, (int) left / (all.size() - i) + 1);
                    return exchange.ended(0, Headers.of(), "", "", "tcp", null);
                } catch (IOException thrown) {
                    if (i == all.size() - 1) throw thrown;
                }
            }
        } catch (IOException thrown) {
            return exchange.failed(thrown);
        }
    }
}

/** Healthy when the command exits with 0; `status` is its exit code and `body` its output. */
record CommandProbe(List<String> words) implements Probe {
    public String inWords() { return "run " + Text.command(words); }

    public Response check(Checker checker, Exchange exchange) {
        try {
            Duration limit = checker.runner().deadline().left(exchange.limit);
            CommandResult result = checker.runner().run(words, limit, Map.of());
            if (result.exit() == 126 || result.exit() == 127) // as a shell tells it
                throw new IllegalStateException("cannot run: " + result.failure());
            return exchange.ended(result.exit(), Headers.of(), result.output(), "", "command",
                null);
        } catch (CancellationException killed) {
            return exchange.failed(Model.Failure.timeout, killed.getMessage());
        }
    }
}

/** Times the phases of a check; a failure names the current one, and the address. */
final class Exchange extends EventListener {
    /** By class and message of an exception: a word for rules, a sentence for people. */
    private static final String[][] FAULTS = {
        {"UnknownHost", "unknownHost", "HOST does not resolve"},
        {"InterruptedIO|SocketTimeout", "timeout", "no response within LIMITPHASE"},
        {"Connect.*Connection refused", "refused", "connection refused by ADDRESS"},
        {"(Connect|NoRoute|Socket).*\\(connecting", "unreachable", "ADDRESS is unreachable"},
        {".*Too many open files", "denied", "this machine has too many open files"},
        {"Socket|StreamReset", "reset", "the connection was resetPHASE"},
        {"SSLPeerUnverified", "tls", "the certificate is not for HOST"},
        {"CertificateExpired", "tls", "the certificate of HOST, or one above it, has expired"},
        {"CertificateNotYetValid", "tls",
            "the certificate of HOST is not valid yet; check the clock of this machine"},
        {"Certificate|Validator", "tls",
            "the certificate of HOST is not trusted; if you trust it, add: trust 'ca.pem'"},
        {"SSL.*unrecognized SSL", "tls", "ADDRESS does not speak TLS; write http://"},
        {"EOF.*=1503|.*: \u0015\u0003", "closed", "ADDRESS speaks TLS; write https://"},
        {"EOF.*limit=[1-9].*\\(waiting", "closed", "headers or status 1xx without end"},
        {"EOF|.*unexpected end of stream", "closed", "the connection was closedPHASE"},
        {"SSL", "tls", "the TLS handshake with HOST failed: DETAIL"},
        {".*Unexpected status line", "closed", "the response is not HTTP, but 'DETAIL'"},
        {".*(gzip|ID1ID2|CRC|ISIZE|DataFormat)", "closed", "the response is corrupt gzip"},
        {"", "closed", "unreadable responsePHASE"}};

    final Duration limit;
    final Deadline deadline;
    private final Map<String, Double> phases = new LinkedHashMap<>(); // in milliseconds
    private double phaseBegan;
    private String phase, phaseInWords = "";
    volatile String host = "";
    private volatile InetSocketAddress address;

    Exchange(Duration limit) {
        this.limit = limit;
        deadline = Deadline.in(limit);
    }

    private Duration time() { return limit.minus(deadline.left()); }

    Response ended(int status, Headers headers, String body, String url, String protocol,
                   X509Certificate certificate) {
        return new Response(status, headers, body, url, protocol, certificate, time(), phases(),
            Model.Failure.none, "");
    }

    Response failed(Model.Failure failure, String text) {
        return new Response(0, Headers.of(), "", "", "", null, time(), phases(), failure, text);
    }

    synchronized Response failed(Throwable thrown) {
        String message = String.valueOf(thrown.getMessage());
        if (message.matches("HTTP 20[45] had non-zero .*")) // harmless, but OkHttp refuses it
            return ended(204, Headers.of(), "", "", "http/1.1", null);
        String[] fault = Stream.of(FAULTS).filter(row -> Text.causes(thrown).anyMatch(each ->
            Pattern.compile("(?s)" + row[0]).matcher(each.getClass().getSimpleName() + " "
                + each.getMessage() + phaseInWords).lookingAt())).findFirst().orElseThrow();
        String text = fault[2].replace("HOST", host)
            .replace("ADDRESS", address == null ? host : Text.address(address))
            .replace("PHASE", phaseInWords).replace("LIMIT", Text.time(limit))
            .replace("DETAIL", Text.plain(message.substring(message.indexOf(": ") + 1), 60));
        if (fault[1].equals("unreachable") && address.getAddress().isSiteLocalAddress()
                && System.getProperty("os.name").startsWith("Mac"))
            return failed(Model.Failure.denied, text + "; see System Settings > Local Network");
        return failed(Model.Failure.valueOf(fault[1]), text);
    }

    /** A copy: a check that is abandoned goes on. */
    private synchronized Map<String, Double> phases() {
        begin(null, "");
        return new LinkedHashMap<>(phases);
    }

    private synchronized void begin(String next, String inWords) {
        double now = time().toNanos() / 1e6;
        if (phase != null) phases.merge(phase, now - phaseBegan, Double::sum);
        phaseBegan = now;
        phase = next;
        phaseInWords = " (" + inWords + ")";
    }

    @Override public void callStart(Call call) { host = call.request().url().host(); }
    @Override public void dnsStart(Call call, String name) { begin("dns", "resolving the name"); }
    @Override public void connectStart(Call call, InetSocketAddress to, Proxy via) {
        address = to;
        begin("connect", "connecting");
    }
    @Override public void secureConnectStart(Call call) { begin("tls", "in the TLS handshake"); }
    @Override public void connectEnd(Call call, InetSocketAddress to, Proxy via, Protocol name) {
        begin("first byte", "waiting for the response");
    }
    @Override public void responseHeadersEnd(Call call, okhttp3.Response r) {
        begin("body", "reading the response");
    }
}

/** Makes the HTTP client for checks, hooks and heartbeats. */
final class HttpClients {
    /** In the background, since it takes longer than to load all the rest. */
    static CompletableFuture<OkHttpClient> load() {
        return CompletableFuture.supplyAsync(() -> {
            // Under load OkHttp warns of leaked connections: harmless, but cron would mail it.
            java.util.logging.Logger.getLogger("").setLevel(java.util.logging.Level.OFF);
            return new OkHttpClient.Builder().proxy(Proxy.NO_PROXY)
                .followRedirects(false).followSslRedirects(false).connectTimeout(Duration.ZERO)
                .readTimeout(Duration.ZERO).writeTimeout(Duration.ZERO).build();
        }, DaemonThreads.POOL);
    }

    /** With the certificate authorities of a PEM file, or null, besides the system's. */
    static OkHttpClient trust(OkHttpClient client, Path file) {
        if (file == null) return client;
        try (var in = Files.newInputStream(file)) {
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            for (var own : CertificateFactory.getInstance("X.509").generateCertificates(in))
                store.setCertificateEntry("ca" + store.size(), own);
            if (store.size() == 0) throw new CertificateException("no certificate in it");
            for (var known : client.x509TrustManager().getAcceptedIssuers())
                store.setCertificateEntry("ca" + store.size(), known);
            var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, trust.getTrustManagers(), null);
            return client.newBuilder().sslSocketFactory(context.getSocketFactory(),
                (X509TrustManager) trust.getTrustManagers()[0]).build();
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalStateException(
                "cannot read certificates from " + file + ": " + Text.thrown(e));
        }
    }
}

// === 6. Verdicts and decisions =================================================================
// The policy, as pure functions: no clock, no file, no process, no network. Each rule of it is a
// row of a table in DecideTest.

/** What a pass did about a watch; these names are used by --json. */
enum Action { nothing, restarted, held, gave_up, blocked, paused }

/** What to do now and why, with which remedy (its index, or -1), what to report and remember. */
record Decision(Action action, String why, int remedy, List<Model.EventKind> events,
                WatchState state) {
    static Decision noRestart(Action action, String why, WatchState state) {
        return new Decision(action, why, -1, List.of(), state);
    }

    Decision withAction(Action next, String reason, int nextRemedy) {
        return new Decision(next, reason, nextRemedy, events, state);
    }

    private Decision with(List<Model.EventKind> nextEvents, WatchState nextState) {
        return new Decision(action, why, remedy, nextEvents, nextState);
    }

    /** Each kind once an incident; reminders repeatedly. */
    Decision report(Model.EventKind kind, Instant now) {
        Incident open = state.incident();
        if (open.reported().contains(kind) && kind != Model.EventKind.reminder) return this;
        List<Model.EventKind> all = new ArrayList<>(events);
        all.add(kind);
        return with(all, state.withIncident(open.withReport(kind, now)));
    }

    /** Records the result of the restart; unless it is still awaited, still_down is reported. */
    Decision afterRestart(String result, Instant now) {
        Decision after = with(events, state.withLastResult(result));
        return result.equals(RestartRecord.WAITING) ? after
            : after.report(Model.EventKind.still_down, now);
    }

    /** Reports that the watch can be judged again, unless something else is reported anyway. */
    Decision afterInconclusive() {
        return !state.reportedInconclusive() ? this
            : with(events.isEmpty() ? List.of(Model.EventKind.inconclusive) : events,
                state.withReportedInconclusive(false));
    }
}

/** What a check means, and what follows from that. */
sealed interface Verdict permits Healthy, Unhealthy, Inconclusive, Paused {
    String reason();

    /** {@code state} already includes this pass. */
    Decision decideAfterPass(RestartPolicy policy, WatchState state, Instant now);

    default Decision decide(RestartPolicy policy, WatchState state, Instant now) {
        Decision decision = decideAfterPass(policy, state.withPass(this, policy, now), now);
        return isJudged() ? decision.afterInconclusive() : decision;
    }
    default String word() { return getClass().getSimpleName().toLowerCase(Locale.ROOT); }
    default boolean isJudged() { return this instanceof Healthy || this instanceof Unhealthy; }
    default int exitCode() {
        return this instanceof Unhealthy ? 1 : this instanceof Inconclusive ? 3 : 0;
    }
}

/** The service answers as the rules want. An incident ends when this has lasted. */
record Healthy(String reason) implements Verdict {
    public Decision decideAfterPass(RestartPolicy policy, WatchState state, Instant now) {
        Incident open = state.incident();
        boolean over = open != null && open.isHealthyFor(Incident.OVER, now);
        if (over) return new Decision(Action.nothing, "", -1, open.relapses() == 0 ? List.of()
            : List.of(Model.EventKind.recovered), state.withIncident(null));
        if (open == null || open.isHealthy()) return Decision.noRestart(Action.nothing, "", state);

        RestartRecord last = state.lastRestart();
        boolean restartHelped = last != null && last.isPending();
        WatchState next = state.withIncident(open.healthy(now))
            .withLastResult(restartHelped ? RestartRecord.HELPED : RestartRecord.HEALTHY_LATER);
        Decision healthy = Decision.noRestart(Action.nothing, "", next);
        return open.relapses() > 0 ? healthy : healthy.report(
            restartHelped ? Model.EventKind.healed : Model.EventKind.recovered, now);
    }
}

/**
 * The service does not answer as the rules want. {@code remedies}: the indexes of those that fit
 * the cause, to be used in turn; if there are none, {@code whyNoRemedy} says why.
 */
record Unhealthy(String reason, String diagram, List<Integer> remedies, String whyNoRemedy)
        implements Verdict {
    public Decision decideAfterPass(RestartPolicy policy, WatchState state, Instant now) {
        Incident open = state.incident();
        int needed = policy.failures();
        Decision begun = Decision.noRestart(Action.held, "unhealthy in "
            + Text.count(state.failures(), "pass", "passes") + "; a restart needs " + needed
            + " of the last " + (2 * needed - 1), state);
        if (open == null || open.isHealthy()) {
            if (state.failures() < needed) return begun;
            begun = Decision.noRestart(Action.held, "", open == null
                ? state.withIncident(Incident.open(state.since(), reason, now))
                : state.relapsed(now))
                .report(open == null ? Model.EventKind.down : Model.EventKind.flapping, now);
        }
        Decision next = chooseRestart(policy, begun, now);
        Instant lastReport = next.state().incident().lastReport();
        boolean remind = next.events().isEmpty() && !now.isBefore(lastReport.plus(policy.remind()));
        return remind ? next.report(Model.EventKind.reminder, now) : next;
    }

    private Decision chooseRestart(RestartPolicy policy, Decision begun, Instant now) {
        if (remedies.isEmpty()) return begun.withAction(Action.held, whyNoRemedy, -1);
        RestartRecord last = begun.state().lastRestart();
        boolean waiting = last != null && RestartRecord.WAITING.equals(last.result());
        if (waiting && now.isBefore(last.at().plus(policy.within())))
            return begun.withAction(Action.held, "restarted " + Text.time(last.at(), now) + " ago"
                + "; it has up to " + Text.time(policy.within()), -1);
        Decision next = waiting ? begun.afterRestart(RestartRecord.USELESS, now) : begun;
        Instant possible = next.state().nextRestart(policy);
        if (possible.isAfter(now)) {
            boolean full = next.state().restartsInWindow(policy, now) >= policy.limit();
            String why = full ? "the restart limit of " + policy.limit() + " per "
                + Text.time(policy.per()) + " is reached" : "the last restarts did not help";
            return next.withAction(Action.gave_up, why + "; the next restart is possible at "
                + Text.at(possible), -1).report(Model.EventKind.gave_up, now);
        }
        return next.withAction(Action.restarted, "", remedies.stream()
            .filter(index -> !next.state().hasUsed(index)).findFirst()
            .orElse(remedies.get(remedies.size() - 1)));
    }
}

/**
 * A dependency is unhealthy ({@code blocked}), or something could not be evaluated: no restart.
 * {@code dependencyNotifies}: it is reported instead of this one.
 */
record Inconclusive(String reason, boolean blocked, boolean dependencyNotifies)
        implements Verdict {
    private static final Duration REPORT_AFTER = Duration.ofHours(1);

    Inconclusive(String reason, boolean blocked) { this(reason, blocked, false); }

    public Decision decideAfterPass(RestartPolicy policy, WatchState state, Instant now) {
        Action action = blocked ? Action.blocked : Action.held;
        boolean report = !dependencyNotifies && !state.reportedInconclusive()
            && !now.isBefore(state.since().plus(REPORT_AFTER));
        return report ? new Decision(action, reason, -1, List.of(Model.EventKind.inconclusive),
            state.withReportedInconclusive(true)) : Decision.noRestart(action, reason, state);
    }
}

/** Paused by the user; not checked. */
record Paused(String reason) implements Verdict {
    public Decision decideAfterPass(RestartPolicy policy, WatchState state, Instant now) {
        return Decision.noRestart(Action.paused, reason, state);
    }
}

// === 7. Restarts and processes =================================================================
// The only section that runs processes. A command is a list of words; only `sh` starts a shell.

/** A remedy at work: what it has done so far, and why it failed. */
final class RestartRun {
    final long began = System.nanoTime();
    private final CommandRunner runner;
    private final Watch watch;
    private final List<ProcessStopper> stopped = new ArrayList<>(); // not by `start`
    private final List<RunningCommand> started = new ArrayList<>();
    private final List<String> actions = new ArrayList<>();
    private String failedStep;

    RestartRun(CommandRunner runner, Watch watch) {
        this.runner = runner;
        this.watch = watch;
    }

    /** All steps, in order; the first that fails ends the remedy. A stopped service is started. */
    RestartRun run(List<Step> steps, Consumer<String> progress) {
        try {
            for (Step step : steps) {
                boolean begun = !actions.isEmpty() && step.verb().equals("start");
                if (runner.deadline().passed() && !begun) throw new IllegalStateException(
                    "the pass reached its deadline before " + step.inWords());
                progress.accept("  " + step.inWords());
                actions.add(step.code().run(this, step));
            }
        } catch (Throwable thrown) { // custom Groovy code may throw anything
            failedStep = Text.thrown(thrown) + RulesLoader.lineOf(thrown);
        }
        return this;
    }

    String stop(Step step, Duration grace) {
        return ProcessStopper.of(runner, watch, step.command()).stop(grace, stopped);
    }

    String start(Step step, String log) {
        stopped.forEach(ProcessStopper::requireStopped);
        stopped.clear(); // what is started now may have the same words
        RunningCommand running = runner.start(watch, step.command(), log);
        started.add(running);
        boolean noLog = log != null && running.file().equals(CommandRunner.NO_LOG);
        return "started " + Text.program(step.command()) + " (pid " + running.process().pid() + ")"
            + (noLog ? ", without its log: " + log + " cannot be written" : "");
    }

    String run(Step step, Duration timeout) {
        CommandResult result;
        try {
            result = runner.run(step.command(), runner.deadline().left(timeout), Map.of());
        } catch (CancellationException killed) {
            throw new IllegalStateException(killed.getMessage()
                + "; write start for a program that keeps running");
        }
        if (result.exit() == 0) return "ran '" + step.text() + "'";
        throw new IllegalStateException("the command `" + step.text() + "` failed with "
            + result.failure());
    }

    String pause(Duration time) {
        runner.deadline().sleep(time);
        return "waited " + Text.time(time);
    }

    /** Why a step failed, or a process ended after its start; null: neither. */
    String failure() {
        return failedStep != null ? failedStep : started.stream().map(RunningCommand::failure)
            .filter(Objects::nonNull).findFirst().orElse(null);
    }

    boolean hasFailed() { return failure() != null; }
    String result(boolean healthy) {
        if (hasFailed()) return failure();
        return healthy ? RestartRecord.HELPED : RestartRecord.USELESS;
    }

    String inWords() {
        String text = String.join("; ", actions), failure = failure();
        return failure == null ? text : text + (text.isEmpty() ? "" : ", then ") + failure;
    }
}

/** A process, and its output: a file from {@code begin} on. */
record RunningCommand(List<String> words, File file, long begin, Process process) {
    /** At most the last 16 KiB. */
    String output() {
        try (var in = new FileInputStream(file)) {
            in.skip(Math.max(begin, file.length() - CommandRunner.MAX_KEPT));
            return new String(in.readNBytes(CommandRunner.MAX_KEPT), StandardCharsets.UTF_8);
        } catch (IOException unreadable) {
            return "";
        }
    }

    void kill() { ProcessStopper.kill(new HashSet<>(Set.of(process.pid()))); }

    /** Null while it runs or after exit code 0, as of a program that daemonizes itself. */
    String failure() {
        if (process.isAlive() || process.exitValue() == 0) return null;
        return Text.program(words) + " ended with "
            + new CommandResult(process.exitValue(), output()).failure();
    }
}

/** A command's exit code and the last 16 KiB of its output. */
record CommandResult(int exit, String output) {
    /** A missing interpreter is told as if the script itself was missing. */
    String failure() {
        String hint = exit == 127 ? " (does its first line name a program that exists?)" : "";
        return "exit code " + exit + hint + Text.lastWords(output);
    }
}

/** Runs commands in the rules' folder. */
record CommandRunner(Path folder, Path state, Map<String, String> env, Deadline deadline) {
    static final File NO_LOG = new File("/dev/null");
    static final String CRON_PATH = "/usr/bin:/bin", OUTPUT = ".log";
    /** Of a record's name, because pids and start times begin anew with each boot. */
    static final String BOOT =
        "-" + Text.hash(ProcessStat.proc("sys/kernel/random/boot_id")).substring(0, 8);
    static final int MAX_LOG = 1 << 20, MAX_OUTPUT = 64 << 20, MAX_KEPT = 16 << 10;

    /** Programs are found in the folders of PATH, and then in the usual ones. */
    CommandRunner {
        String all = env.getOrDefault("PATH", CRON_PATH) + ":/usr/local/bin:/opt/homebrew/bin:"
            + "/usr/sbin:/sbin:" + env.getOrDefault("HOME", "") + "/.local/bin";
        env.put("PATH", Stream.of(all.split(":")).filter(place -> !place.isEmpty()).distinct()
            .collect(Collectors.joining(":")));
    }

    /**
     * Its output goes to a file: a daemon that it leaves behind would keep a pipe open. Throws a
     * CancellationException when the command took too long or printed too much, and was killed.
     */
    CommandResult run(List<String> words, Duration timeout, Map<String, String> extraEnv) {
        File output = SecureFiles.orElse(() ->
            Files.createTempFile(temp(), "run-", ".tmp").toFile(), full -> NO_LOG);
        try {
            RunningCommand running = launch(words, extraEnv, output);
            return DaemonThreads.onSignal(running::kill, () -> waitFor(running, timeout));
        } finally {
            if (!output.equals(NO_LOG)) output.delete();
        }
    }

    /** With less than 1 MiB free in the state folder the output could not be kept there. */
    private Path temp() throws IOException {
        boolean usable = Files.isWritable(state) && state.toFile().getUsableSpace() >= 1 << 20;
        return usable ? state : SecureFiles.trusted(Path.of(System.getProperty("java.io.tmpdir")));
    }

    private static CommandResult waitFor(RunningCommand running, Duration timeout) {
        Process process = running.process();
        boolean tooMuch = Deadline.in(timeout)
            .await(() -> !process.isAlive() || running.file().length() > MAX_OUTPUT);
        if (!process.isAlive()) return new CommandResult(process.exitValue(), running.output());
        running.kill();
        throw new CancellationException("'" + Text.command(running.words()) + "' "
            + (tooMuch ? "printed more than 64 MiB" : "did not end within " + Text.time(timeout))
            + " and was killed" + Text.lastWords(running.output()));
    }

    /** Without pipes to us, so that it survives this pass and cron's job. */
    RunningCommand start(Watch watch, List<String> words, String log) {
        Path record = state.resolve("started").resolve(Text.hash(watch.name()) + endOf(words));
        SecureFiles.orElse(() -> SecureFiles.folder(record.getParent()), e -> null);
        File file = log != null ? folder.resolve(log).toFile() : new File(record + OUTPUT);
        // A daemon's log may grow for years: beyond 1 MiB it begins anew, and one old file is kept.
        if (file.length() > MAX_LOG) file.renameTo(new File(file + ".old"));
        RunningCommand started = launch(words, Map.of(), writable(file, true));
        Process process = started.process();
        SecureFiles.orElse(() -> SecureFiles.write(record, process.pid() + " "
            + ProcessStat.of(process.toHandle()).start()), e -> null); // a full disk
        Deadline.in(Duration.ofMillis(100)).await(() -> !process.isAlive());
        if (started.failure() != null) throw new IllegalStateException(started.failure());
        return started;
    }

    /** On a full disk a service is better started without its log than not at all. */
    private static File writable(File log, boolean append) {
        return SecureFiles.orElse(() -> {
            new FileOutputStream(log, append).close();
            return log;
        }, e -> NO_LOG);
    }

    /** The end of a record's name; its beginning is the watch. */
    private static String endOf(List<String> words) { return "-" + Text.hash("" + words) + BOOT; }

    /** Then the rights of its group are those of an access list, which Java cannot read. */
    static boolean hasAcl(Path file) throws IOException {
        Process ls = new ProcessBuilder("ls", "-ld", file.toString()).start();
        return String.valueOf(ls.inputReader().readLine()).matches("\\S+[+] .*");
    }

    private List<File> startedFiles(Predicate<String> name) {
        File[] files = state.resolve("started").toFile().listFiles((dir, file) -> name.test(file));
        return files == null ? List.of() : List.of(files);
    }

    /** Deletes records of an earlier boot; empties long outputs of services without `log:`. */
    void tidyStarted() {
        startedFiles(name -> !name.contains(BOOT)).forEach(File::delete);
        for (File file : startedFiles(name -> name.endsWith(OUTPUT)))
            writable(file, file.length() <= MAX_LOG);
    }

    /** The sessions that `start` began with these words, or with words that are edited since. */
    Set<Long> startedBy(Watch watch, List<String> words) {
        List<String> current = watch.steps().map(step -> endOf(step.command())).toList();
        Set<Long> pids = new HashSet<>();
        for (File file : startedFiles(name -> name.endsWith(endOf(words))
                || name.startsWith(Text.hash(watch.name())) && name.endsWith(BOOT)
                && current.stream().noneMatch(name::endsWith))) {
            Matcher record = Pattern.compile("([1-9]\\d{1,17}) (.*)")
                .matcher(SecureFiles.readOrEmpty(file.toPath(), 200));
            if (!record.matches()) continue;
            // The session has the number of its first process, also when that has ended.
            long pid = Long.parseLong(record.group(1));
            if (ProcessHandle.of(pid).stream().allMatch(process ->
                ProcessStat.of(process).start().equals(record.group(2)))) pids.add(pid);
        }
        return pids;
    }

    private RunningCommand launch(List<String> words, Map<String, String> extraEnv, File output) {
        List<String> command = new ArrayList<>(ownSession());
        command.add(resolve(words.get(0)).toString());
        command.addAll(words.subList(1, words.size()));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile())
            .redirectInput(NO_LOG).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(output));
        builder.environment().clear();
        builder.environment().putAll(env);
        builder.environment().putAll(extraEnv);
        try {
            return new RunningCommand(words, output, output.length(), builder.start());
        } catch (IOException | OutOfMemoryError e) { // a failed fork is either
            throw new IllegalStateException(
                "cannot run '" + Text.command(words) + "': " + Text.thrown(e));
        }
    }

    /** A new session links a process to all that it starts, and to nothing of cron's. */
    private List<String> ownSession() {
        Path setsid = find("setsid"), perl = find("perl"); // macOS has no setsid
        if (setsid != null) return List.of(setsid.toString());
        return perl != null ? List.of(perl.toString(), "-MPOSIX", "-e",
            "POSIX::setsid(); exec { $ARGV[0] } @ARGV or die $!")
            : List.of("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh");
    }

    /** The file that a command's first word names, or a sentence about what is wrong with it. */
    Path resolve(String program) {
        Path file = find(program);
        if (file == null) throw new IllegalStateException("no program '" + program + "' in "
            + env.get("PATH") + "; install it, or name its folder: path '/opt/...'");
        if (!Files.isRegularFile(file)) throw new IllegalStateException(
            file + (Files.exists(file) ? " is not a file" : " does not exist"));
        if (!Files.isExecutable(file)) throw new IllegalStateException(
            file + " is not executable; fix it with: chmod +x " + file);
        return file;
    }

    /** Null: no folder of the path has such a program. */
    Path find(String program) {
        if (program.contains("/")) return folder.resolve(program).normalize();
        return Stream.of(env.get("PATH").split(":"))
            .map(place -> folder.resolve(place).resolve(program))
            .filter(file -> Files.isRegularFile(file) && Files.isExecutable(file))
            .findFirst().orElse(null);
    }
}

/** What the system tells of a process. A clock that is set does not change its start. */
record ProcessStat(boolean ended, long session, String start) {
    static ProcessStat of(ProcessHandle process) {
        String stat = proc(process.pid() + "/stat");
        if (stat.isEmpty()) return new ProcessStat(process.info().command().isEmpty(), 0,
            "" + process.info().startInstant()); // no /proc, or it has ended
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return new ProcessStat(fields[0].equals("Z"), Long.parseLong(fields[3]), fields[19]);
    }

    /** The text of a file in /proc; empty where there is none. */
    static String proc(String file) {
        return SecureFiles.readOrEmpty(Path.of("/proc", file), 4 << 20);
    }
}

/** Ends the processes that run these words, and the sessions that `start` began with them. */
record ProcessStopper(CommandRunner runner, Watch watch, List<String> words, List<String> files) {
    private static final Pattern INTERPRETER = Pattern.compile("(?i)(([bdkz]?a|fi|[kz])?sh|[gm]?awk"
        + "|perl|python|ruby|node(js)?|php|lua|tclsh|rscript)[-.\\d]*");
    private static final int MAX_PROCESSES = 5;
    private static final String USER = ProcessHandle.current().info().user().orElse("?");
    /** This pass and its ancestors, which are never ended. */
    private static final Set<ProcessHandle> OURS =
        Stream.iterate(ProcessHandle.current(), Objects::nonNull, p -> p.parent().orElse(null))
            .collect(Collectors.toSet());

    static ProcessStopper of(CommandRunner runner, Watch watch, List<String> words) {
        Path file = runner.find(words.get(0)); // a name may lead to it: `python3` is python3.11
        return new ProcessStopper(runner, watch, words, file == null ? List.of() : List.of(
            file.toString(), SecureFiles.orElse(file::toRealPath, gone -> file).toString()));
    }

    /** Throws for words that would end too much, or that are a command. */
    static void requireSafe(String words) {
        if (words.length() < 3) throw new IllegalArgumentException("stop '" + words
            + "' is too short to be safe; write at least 3 characters");
        if (words.matches("(kill|killall|pkill|systemctl|launchctl) .*"))
            throw new IllegalArgumentException("stop takes the words of the service itself;"
                + " for a command write: run '" + words + "'");
        if (INTERPRETER.matcher(words).matches()) throw new IllegalArgumentException("stop '"
            + words + "' would end every script that " + words + " runs; name the script, too");
    }

    /** Returns what was done, in words. */
    String stop(Duration grace, List<ProcessStopper> stopped) {
        Set<Long> pids = runner.startedBy(watch, words);
        boolean unrecorded = pids.addAll(unrecorded(pids));
        List<ProcessHandle> tree = tree(pids);
        if (tree.isEmpty()) return "no process runs '" + command() + "', so nothing was stopped";
        if (unrecorded) stopped.add(this);
        String roots = named(roots(tree));
        if (end(pids, ProcessHandle::destroy, runner.deadline().sooner(grace)))
            return "stopped " + roots;
        if (kill(pids)) return "killed " + roots;
        throw new IllegalStateException("cannot stop " + named(tree(pids)));
    }

    /** What it finds now, in words. */
    String preview() {
        Set<Long> pids = runner.startedBy(watch, words);
        find().forEach(process -> pids.add(process.pid()));
        List<ProcessHandle> roots = roots(tree(pids));
        return roots.isEmpty() ? " matches no process now" : " now matches " + named(roots);
    }

    private String command() { return Text.cut(Text.command(words), 200); }

    /** Throws for words that match more than 5 processes, or another user's. */
    private List<Long> unrecorded(Set<Long> sessions) {
        List<ProcessHandle> found = find().stream()
            .filter(process -> !sessions.contains(ProcessStat.of(process).session())).toList();
        boolean foreign = found.stream()
            .anyMatch(process -> !process.info().user().orElse(USER).equals(USER));
        if (foreign || found.size() > MAX_PROCESSES) throw new IllegalStateException("stop '"
            + command() + "' matches " + named(found) + ", but watchdog stops at most "
            + MAX_PROCESSES + " processes, and only those of user " + USER);
        return found.stream().map(ProcessHandle::pid).toList();
    }

    private String named(List<ProcessHandle> processes) {
        return Text.program(words) + processes.stream().map(process -> "pid " + process.pid())
            .collect(Collectors.joining(", ", " (", ")"));
    }

    /** A service manager starts its service again a little later, and then two would run. */
    void requireStopped() {
        Deadline look = runner.deadline().sooner(Duration.ofSeconds(1));
        if (look.await(() -> !find().isEmpty())) throw new IllegalStateException(named(find())
            + " was started again by something else; restart it there:"
            + " run 'systemctl restart ...'");
    }

    static boolean kill(Set<Long> pids) {
        return end(pids, ProcessHandle::destroyForcibly, Deadline.in(Duration.ofSeconds(10)));
    }

    /** False: some still run. What appears meanwhile is signalled after the others have ended. */
    private static boolean end(Set<Long> pids, Consumer<ProcessHandle> signal, Deadline deadline) {
        List<ProcessHandle> tree = tree(pids);
        tree.forEach(signal);
        if (tree.isEmpty() || deadline.passed()) return tree.isEmpty();
        return deadline.await(() -> Collections.disjoint(tree(pids), tree))
            && end(pids, signal, deadline);
    }

    /** Adds children and members of sessions to the pids: each may outlive its parent. */
    private static List<ProcessHandle> tree(Set<Long> pids) {
        int known = pids.size();
        List<ProcessHandle> tree = running(process -> pids.contains(process.pid())
            || pids.contains(ProcessStat.of(process).session())
            || process.parent().filter(parent -> pids.contains(parent.pid())).isPresent());
        tree.forEach(process -> pids.add(process.pid()));
        return pids.size() > known ? tree(pids) : tree;
    }

    private static List<ProcessHandle> running(Predicate<ProcessHandle> wanted) {
        return ProcessHandle.allProcesses().filter(process -> !OURS.contains(process)
            && wanted.test(process) && !ProcessStat.of(process).ended()).toList();
    }

    /** Not those of containers. A server and its workers, which may run the same, count once. */
    private List<ProcessHandle> find() {
        return roots(running(process -> runsCommand(process) && !ProcessStat
            .proc(process.pid() + "/status").matches("(?s).*\nNSpid:\t\\d+\t.*")));
    }

    private static List<ProcessHandle> roots(List<ProcessHandle> processes) {
        return processes.stream()
            .filter(process -> process.parent().filter(processes::contains).isEmpty()).toList();
    }

    private boolean runsCommand(ProcessHandle process) {
        String shown = ProcessStat.proc(process.pid() + "/cmdline"); // Java cuts it at 4 KiB
        ProcessHandle.Info info = process.info();
        List<String> line = new ArrayList<>(List.of(shown.split("\0", -1)));
        if (shown.isEmpty()) line.addAll(List.of(info.arguments().orElse(new String[0])));
        String wanted = arguments(words), title = line.get(0) + " ";
        String file = info.command().orElse("").replace(" (deleted)", "");
        // A title may show the words: `nginx: master process nginx -c file`.
        if (isProgram(title.split(" ", 2)[0], file))
            return arguments(line).startsWith(wanted) || title.contains(" " + wanted);

        // A script stands behind its interpreter and flags; `vim cloudflared` only names it.
        List<String> script = line.stream().skip(1).dropWhile(word -> word.startsWith("-"))
            .toList();
        if (script.isEmpty() || !INTERPRETER.matcher(Text.fileName(line.get(0))).matches())
            return false;
        Path real = SecureFiles.orElse(() -> Path.of("/proc/" + process.pid() + "/cwd")
            .resolve(script.get(0)).toRealPath(), missing -> null);
        return real != null && isProgram(script.get(0), real.toString())
            && arguments(script).startsWith(wanted);
    }

    private static String arguments(List<String> line) {
        return line.stream().skip(1).map(word -> word + " ").collect(Collectors.joining());
    }

    /** One file may be many programs, as busybox is: the link by which it runs says which. */
    private boolean isProgram(String shown, String file) {
        Predicate<String> known =
            path -> files.contains(path) || Text.fileName(path).equals(words.get(0));
        return known.test(shown) || known.test(file) && Stream.of(shown, file)
            .anyMatch(path -> Text.fileName(path).startsWith(Text.program(words)));
    }
}

/** A moment at which waiting ends, on a clock that nobody can set. */
record Deadline(long nanos) {
    static Deadline in(Duration time) { return new Deadline(System.nanoTime() + time.toNanos()); }

    boolean passed() { return left().isZero(); }
    Duration left() { return Duration.ofNanos(Math.max(0, nanos - System.nanoTime())); }
    Duration left(Duration atMost) { return Collections.min(List.of(left(), atMost)); }
    Deadline sooner(Duration time) { return left().compareTo(time) < 0 ? this : in(time); }

    /** Polls, at first quickly; false if the condition was not true in time. */
    boolean await(BooleanSupplier condition) {
        for (long pause = 2; !condition.getAsBoolean(); pause = Math.min(pause * 2, 50)) {
            if (passed()) return false;
            sleep(Duration.ofMillis(pause));
        }
        return true;
    }

    void sleep(Duration time) {
        try {
            Thread.sleep(Math.min(time.toMillis(), left().toMillis()));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}

/** Threads that never keep the program from ending. */
final class DaemonThreads {
    static final ExecutorService POOL = Executors.newCachedThreadPool(DaemonThreads::thread);

    static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "watchdog");
        thread.setDaemon(true);
        return thread;
    }

    /** If a signal ends the program during the work, {@code hook} runs, and nothing after it. */
    static <T> T onSignal(Runnable hook, Supplier<T> work) {
        Thread thread = thread(hook);
        try {
            Runtime.getRuntime().addShutdownHook(thread);
            return work.get();
        } finally {
            try {
                Runtime.getRuntime().removeShutdownHook(thread);
            } catch (IllegalStateException ending) { // as adding one throws
                new Semaphore(0).acquireUninterruptibly();
            }
        }
    }

    /** The result, or {@code otherwise} when it does not come in time. */
    static <T> T get(Future<? extends T> result, Duration time, T otherwise) {
        try {
            return result.get(time.toNanos(), TimeUnit.NANOSECONDS);
        } catch (TimeoutException | InterruptedException late) {
            return otherwise;
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException known) throw known;
            throw new IllegalStateException(e.getCause());
        }
    }
}

// === 8. Notifications ==========================================================================
// A message is saved together with the state that caused it, and stays in the outbox until its hook
// has accepted or rejected it: a crash can repeat a message, but never lose it.

/** A message that waits for one hook. */
record OutboxEntry(Model.Event event, String hook) { }

/** {@code again}: it was not accepted, but may be in a later pass. */
record DeliveryResult(boolean accepted, String text, boolean again) {
    static final DeliveryResult ACCEPTED = new DeliveryResult(true, "accepted", false);

    static DeliveryResult failed(String why) { return failed(why, true); }

    static DeliveryResult failed(String why, boolean again) {
        return new DeliveryResult(false, "not accepted: " + Text.plain(why, 200), again);
    }
}

/** Delivers messages, each hook in its own thread: no hook delays a restart or another hook. */
final class Notifier {
    static final Duration TIMEOUT = Duration.ofSeconds(10);
    private final Context context;
    private final StateStore store;
    final Checker checker;
    private final Map<String, Model.Hook> hooks = new ConcurrentHashMap<>();
    private final List<String> warnings = Collections.synchronizedList(new ArrayList<>());
    private final Map<String, CompletableFuture<Void>> deliveries = new HashMap<>();

    Notifier(Context context, StateStore store, Checker checker, List<Model.Hook> hooks) {
        this.context = context;
        this.store = store;
        this.checker = checker;
        for (Model.Hook hook : hooks) this.hooks.put(hook.id(), hook);
        for (Model.Hook hook : hooks)
            if (hook.orElse() != null) this.hooks.putIfAbsent(hook.orElse().id(), hook.orElse());
    }

    /** What waits for a hook that left the rules is given to the present ones. */
    void reassign(List<Model.Hook> present) {
        for (OutboxEntry entry : store.outbox()) {
            if (hooks.containsKey(entry.hook()) || present.isEmpty()) continue;
            store.remove(List.of(entry));
            enqueue(entry.event(), present);
        }
    }

    void post(Model.Event e, Collection<Model.Hook> hooks) {
        Model.Event event = new Model.Event(e.kind(), e.watch(),
            context.secrets.mask(context.messagePrefix + e.title()),
            context.secrets.mask(e.text()), e.at(), e.since());
        store.append("incidents", event);
        enqueue(event, hooks);
    }

    private void enqueue(Model.Event event, Collection<Model.Hook> hooks) {
        hooks.stream().filter(hook -> hook.on().contains(event.kind())).map(Model.Hook::id)
            .distinct().forEach(id -> store.post(new OutboxEntry(event, id)));
    }

    /** Returns at once; messages posted later are sent by the next call. */
    void send() {
        for (String id : new HashSet<>(store.outbox().stream().map(OutboxEntry::hook).toList())) {
            var previous = deliveries.getOrDefault(id, CompletableFuture.completedFuture(null));
            deliveries.put(id, previous.thenRunAsync(() -> deliver(id), DaemonThreads.POOL));
        }
    }

    /** Waits for deliveries to end, also after the deadline, and returns what was not delivered. */
    List<String> finish() {
        var all = CompletableFuture.allOf(deliveries.values().toArray(CompletableFuture[]::new));
        Duration left = checker.runner().deadline().left(Duration.ofSeconds(30));
        DaemonThreads.get(all, Collections.max(List.of(left, Duration.ofSeconds(8))), null);
        for (String id : deliveries.keySet())
            if (!deliveries.get(id).isDone())
                warnings.add(Text.hook(id) + ": not answered yet; watchdog will send it again");
        return warnings.stream().sorted().toList();
    }

    /** If the hook has rejected it for good, only the fallback is tried again. */
    private void deliver(String id) {
        Model.Hook hook = hooks.get(id); // null: it has failed in this pass, or left the rules
        var entries = store.outbox().stream().filter(entry -> entry.hook().equals(id)).toList();
        if (hook == null || entries.isEmpty()) return;
        var events = entries.stream().map(OutboxEntry::event).distinct().toList();
        Model.Event event = MessageText.merged(events, context.env.now());
        Model.Hook fallback = hook.orElse();
        DeliveryResult first = attempt(hook.sender(), event);
        DeliveryResult last = first.accepted() || fallback == null ? first
            : attempt(fallback.sender(), event);

        Model.Hook next = first.again() || fallback == null ? hook : fallback;
        boolean again = !last.accepted() && (first.again() || last.again());
        if (again) hooks.remove(next.id()); // it is not tried again in this pass
        if (again) store.keep(entries, next.id());
        else store.remove(entries);
        store.save();

        if (first.accepted()) return;
        String second = last == first ? "" : fallback.label() + ": " + last.text() + "; ";
        warnings.add(hook.label() + ": " + first.text() + "; " + (last.accepted()
            ? fallback.label() + " accepted it instead"
            : second + "watchdog will " + (again ? "" : "not ") + "send it again"));
    }

    /** Whatever a hook throws, also custom Groovy code, is only a failed delivery. A command that
     *  is late is killed in the last 5 seconds. */
    DeliveryResult attempt(Sender sender, Model.Event event) {
        var late = DeliveryResult.failed("no answer within " + Text.time(TIMEOUT));
        return CompletableFuture
            .supplyAsync(() -> sender.send(this, event), DaemonThreads.POOL)
            .exceptionally(thrown -> DeliveryResult.failed(Text.thrown(thrown.getCause())))
            .completeOnTimeout(late, TIMEOUT.toSeconds() + 5, TimeUnit.SECONDS).join();
    }

    /** A ping that fails never fails the pass: the receiver notices that it is missing. */
    void heartbeat(String url) {
        Request request = new Request.Builder().url(url).build();
        DeliveryResult result = attempt((notifier, none) ->
            exchange(request, null, context.env.now(), false), null);
        if (!result.accepted()) warnings.add("heartbeat: " + result.text());
    }

    /** The body of a 200 may say no; 429 of Pushover means that no quota is left. */
    DeliveryResult exchange(Request request, Path trust, Instant since, boolean pushover) {
        Response response = new HttpProbe(request, RedirectPolicy.none, trust, null)
            .check(checker, new Exchange(TIMEOUT)).shortened();
        if (response.failure() != Model.Failure.none)
            return DeliveryResult.failed(response.failureText());
        int code = response.status();
        String body = response.body(), to = response.headers().get("Location");
        String text = code + " " + (to == null ? Text.htmlTitle(body) : "redirects to " + to);
        boolean page = Text.isHtml(body), accepted = !page && (pushover
            ? Integer.valueOf(1).equals(Json.at(body, "status"))
            : !Boolean.FALSE.equals(Json.at(body, "ok")));
        // A proxy answers 404 while the service behind it starts; a captive portal redirects, or
        // shows its own page. Another 4xx would come again.
        boolean passing = (code == 404 || code / 100 == 3 || page && code == 200)
            && since.isAfter(context.env.now().minusSeconds(3600));
        boolean again = passing || code >= 500 || code == 408 || code == 429 && !pushover;
        return code / 100 == 2 && accepted ? DeliveryResult.ACCEPTED
            : DeliveryResult.failed(Text.plain(text, 120), again);
    }
}

/** What a message says: what happened, why, since when, what was done. */
final class MessageText {
    static final Set<Model.EventKind> ENDS =
        EnumSet.of(Model.EventKind.healed, Model.EventKind.recovered);
    private static final int MAX_TITLES = 3;

    static Model.Event about(Model.EventKind kind, WatchResult r, Incident incident, Instant now) {
        String name = r.watch.name();
        String down = r.check.response().status() / 100 == 2 ? "unhealthy" : "down";
        String title = switch (kind) {
            case down -> " is " + down;
            case healed, recovered -> " is healthy again";
            case gave_up -> " is still " + down + "; watchdog has stopped restarting it";
            case flapping -> " comes and goes";
            case inconclusive -> r.verdict().isJudged() ? " can be judged again"
                : " cannot be judged";
            default -> " is still " + down;
        };
        String text = text(kind, r, incident).strip();
        return new Model.Event(kind, name, name + title, text, now, incident.since());
    }

    private static String text(Model.EventKind kind, WatchResult r, Incident incident) {
        String cause = r.verdict().reason() + ". ", since = Text.at(incident.since()) + ": ";
        String found = (incident.relapses() == 0 ? "Found down at "
            : "Failed " + (incident.relapses() + 1) + " times since ") + since;
        boolean same = incident.relapses() > 0 || cause.startsWith(incident.reason());
        String first = same ? "" : incident.reason() + ". Now: ";
        return switch (kind) {
            case inconclusive -> capitalize(r.verdict().word()) + " since " + since + cause;
            case down -> cause + (r.lastHealthy == null ? ""
                : "Last seen healthy at " + Text.at(r.lastHealthy) + ". ") + plan(r);
            case flapping -> found + cause + plan(r) + "The message that it is healthy again "
                + "comes after " + Text.time(Incident.OVER) + " without a failure.";
            case healed, recovered -> found + incident.reason() + ". " + tried(r, incident)
                + "Healthy " + Text.time(incident.since(), incident.healthySince()) + " later.";
            default -> found + first + cause + tried(r, incident) + plan(r);
        };
    }

    /** What this pass did, or else the restarts of the incident, with the result of the last. */
    private static String tried(WatchResult r, Incident incident) {
        if (!r.actions.isEmpty()) return capitalize(r.actions) + ". ";
        List<RestartRecord> all = r.decision.state().restartsSince(incident.since());
        if (all.isEmpty()) return "";
        RestartRecord last = all.get(all.size() - 1);
        return "Restarted " + (all.size() == 1 ? "at " : all.size() + " times, last at ")
            + Text.at(last.at()) + ": " + last.inWords() + ". ";
    }

    private static String plan(WatchResult r) {
        if (r.needsRestart()) return "Restarting it: " + r.remedy().inWords() + ". ";
        return r.decision.why().isEmpty() ? "" : "No restart now: " + r.decision.why() + ". ";
    }

    /** All messages that wait for one hook, as one: what is still open first. */
    static Model.Event merged(List<Model.Event> waiting, Instant now) {
        List<Model.Event> events = waiting.stream()
            .sorted(Comparator.comparing(event -> ENDS.contains(event.kind()))).toList();
        Map<String, Model.Event> latest = new LinkedHashMap<>();
        for (Model.Event event : waiting) latest.put(event.watch(), event);
        Map<String, List<Model.Event>> same = events.stream().collect(Collectors.groupingBy(
            event -> event.at() + event.text(), LinkedHashMap::new, Collectors.toList()));

        boolean late = waiting.get(0).at().isBefore(now.minus(Duration.ofMinutes(10)));
        String text = same.values().stream()
            .map(group -> (late ? "At " + Text.at(group.get(0).at()) + ": " : "")
                + (events.size() > 1 ? titles(group, group.size()) + ". " : "")
                + group.get(0).text())
            .collect(Collectors.joining("\n"));
        List<Model.Event> news = events.stream().filter(latest.values()::contains).toList();
        Model.Event newest = news.get(0); // of what the title says first
        return new Model.Event(newest.kind(), String.join(", ", latest.keySet()),
            titles(news, MAX_TITLES), text, newest.at(), newest.since());
    }

    private static String titles(List<Model.Event> events, int max) {
        List<String> titles = events.stream().map(Model.Event::title).toList();
        return titles.size() <= max ? Text.list(titles)
            : String.join(", ", titles.subList(0, max)) + " and " + (titles.size() - max) + " more";
    }
}

/** Runs a command: the message is the last argument, and in variables; no shell parses it. */
record CommandSender(List<String> words) implements Sender {
    public DeliveryResult send(Notifier notifier, Model.Event event) {
        List<String> command = new ArrayList<>(words);
        command.add(Text.cut(event.title() + ": " + event.text(), 8000).replace("\0", ""));
        CommandResult result = notifier.checker.runner().run(command, Notifier.TIMEOUT, Map.of(
            "WATCHDOG_EVENT", event.kind().name(), "WATCHDOG_WATCH", event.watch(),
            "WATCHDOG_TITLE", event.title(), "WATCHDOG_TEXT", Text.cut(event.text(), 8000),
            "WATCHDOG_AT", event.at().toString(), "WATCHDOG_SINCE", event.since().toString()));
        return result.exit() == 0 ? DeliveryResult.ACCEPTED
            : DeliveryResult.failed(result.failure());
    }
}

// === 9. State on disk ==========================================================================
// One folder per rules file, mode 0700. memory.json holds what each watch remembers and the outbox,
// so that both change in one step; history.jsonl has a line for each pass, uptime.jsonl what is
// left of older ones, incidents.jsonl a line for each message. Other files are short: lock,
// schedule (seconds between passes), paused/, started/ (processes, last output), compiled/.

/** What passes remember. A damaged file is renamed, an unwritable one is reported. */
final class StateStore {
    private static final int MAX_MEMORY = 16 << 20, MAX_LENGTH = 1 << 20;

    private final Context context;
    private final Path folder, file;
    private final boolean writable;
    private final Map<String, WatchState> states = new TreeMap<>();
    private final List<OutboxEntry> outbox = new ArrayList<>();
    private final Map<String, Object> lastValues = new TreeMap<>();
    private String saved;
    private History history;

    StateStore(Context context, boolean writable) {
        this.context = context;
        this.folder = context.folder;
        this.file = folder.resolve("memory.json");
        this.writable = writable;
        try {
            if (Files.exists(file)) read();
        } catch (IOException unreadable) {
            quarantine(Text.thrown(unreadable));
        } catch (RuntimeException | StackOverflowError | OutOfMemoryError damaged) {
            quarantine("it is damaged");
        }
    }

    /** If one entry is damaged, the others are still used. */
    private void read() throws IOException {
        saved = SecureFiles.read(file, MAX_MEMORY);
        Map<?, ?> json = (Map<?, ?>) new JsonSlurper().parseText(saved);
        if (json.get("reported") instanceof Map<?, ?> values)
            values.forEach((name, value) -> lastValues.put((String) name, value));
        // After the clock was set back, restart limits do not wait for the old time.
        ((Map<?, ?>) json.get("watches")).forEach((name, state) ->
            states.put((String) name, Json.as(WatchState.class, state, context.env.now())));
        boolean damaged = states.values().removeIf(Objects::isNull);
        ((List<?>) json.get("outbox")).forEach(entry ->
            outbox.add(Json.as(OutboxEntry.class, entry, Text.FOREVER)));
        if (outbox.removeIf(Objects::isNull) || damaged) throw new IllegalArgumentException();
    }

    /** The last damaged file is kept for a person to look at. */
    private void quarantine(String damage) {
        Path renamed = SecureFiles.broken(file);
        boolean moved = writable && file.toFile().renameTo(renamed.toFile());
        context.printer.warn("memory.json could not be read (" + damage + "), so restart limits"
            + " may not hold and messages may be lost"
            + (moved ? "; watchdog has renamed it to " + renamed : ""));
        save();
    }

    synchronized WatchState of(Watch watch) {
        return states.getOrDefault(watch.name(), WatchState.NEW);
    }
    synchronized void put(Watch watch, WatchState state) {
        states.put(watch.name(), state.withProbe(watch.probe().inWords()));
    }

    synchronized List<OutboxEntry> outbox() { return List.copyOf(outbox); }
    /** Replaces what waits of its incident: older ones of its kind; the end replaces all. */
    synchronized void post(OutboxEntry entry) {
        Model.Event event = entry.event();
        boolean end = MessageText.ENDS.contains(event.kind());
        outbox.removeIf(old -> old.hook().equals(entry.hook())
            && old.event().incident().equals(event.incident())
            && (end || old.event().kind() == event.kind()));
        outbox.add(entry);
    }

    synchronized void remove(List<OutboxEntry> sent) { outbox.removeAll(sent); }

    /** For that hook; not what was replaced meanwhile. */
    synchronized void keep(List<OutboxEntry> failed, String hook) {
        outbox.replaceAll(entry -> failed.contains(entry)
            ? new OutboxEntry(entry.event(), hook) : entry);
    }

    /** Forgets watches that left the rules, and returns their states; a renamed one keeps its. */
    synchronized Map<String, WatchState> forget(List<Watch> known) {
        Map<String, WatchState> removed = new TreeMap<>(states);
        for (Watch watch : known) removed.remove(watch.name());
        states.keySet().removeAll(removed.keySet());
        for (Watch watch : removed.isEmpty() ? List.<Watch>of() : known) {
            String probe = context.secrets.mask(watch.probe().inWords());
            List<String> same = removed.keySet().stream()
                .filter(name -> probe.equals(removed.get(name).probe())).toList();
            if (same.size() != 1 || states.containsKey(watch.name())) continue;
            states.put(watch.name(), removed.remove(same.get(0)));
            if (pausedUntil(same.get(0)) != null && pausedUntil(watch.name()) == null)
                pauseFile(same.get(0)).toFile().renameTo(pauseFile(watch.name()).toFile());
        }
        return removed;
    }

    /** Whether the last pass had another value: what stays as it is is reported once. */
    synchronized boolean hasChanged(String name, Object value) {
        return !value.equals(lastValues.put(name, value));
    }

    /** Writes nothing while nothing has changed: disks wear out, and backups notice. */
    synchronized void save() {
        String text = text();
        if (text.equals(saved)) return;
        Path written = writeOrWarn("memory.json",
            ", so restart limits may not hold and messages may be repeated",
            () -> SecureFiles.write(file, text));
        if (written != null) saved = text;
    }

    /** Texts in the states may come from a server; messages are masked when they are posted. */
    private String text() {
        return "{\"reported\": " + Json.text(lastValues) + ",\n\"watches\": "
            + Json.writer(context.secrets::mask).toJson(states) + ",\n\"outbox\": "
            + Json.text(outbox) + "}\n";
    }

    /** null: not paused. A pause is a separate file: `pause` does not wait for a pass. */
    Instant pausedUntil(String name) {
        String text = SecureFiles.readOrEmpty(pauseFile(name), 100);
        Instant until = Json.as(Instant.class, text, Text.FOREVER);
        return until != null && until.isAfter(context.env.now()) ? until : null;
    }

    Path pause(String name, Instant until) throws IOException {
        SecureFiles.folder(folder.resolve("paused"));
        return SecureFiles.write(pauseFile(name), until.toString());
    }

    boolean resume(String name) throws IOException {
        return Files.deleteIfExists(pauseFile(name));
    }

    private Path pauseFile(String name) { return folder.resolve("paused/" + Text.hash(name)); }

    private Path file(String name) { return folder.resolve(name + ".jsonl"); }
    private boolean isFull(String name) { return file(name).toFile().length() > MAX_LENGTH; }

    /** A line of JSON; a file that is full replaces the older one. */
    void append(String name, Object line) {
        writeOrWarn(name + ".jsonl", "", () -> {
            if (isFull(name)) Files.move(file(name), file(name + ".old"),
                StandardCopyOption.REPLACE_EXISTING);
            return SecureFiles.append(file(name), Json.text(line));
        });
    }

    /** Without the lines that a crash has cut. */
    private <T> List<T> read(Class<T> type, String... names) {
        return Stream.of(names)
            .flatMap(name -> SecureFiles.readOrEmpty(file(name), 4 * MAX_LENGTH).lines())
            .map(line -> Json.parse(line, type)).filter(Objects::nonNull).toList();
    }

    /** Before the oldest passes are dropped, their times up and down are kept. */
    void saveHistory(Collection<WatchResult> results) {
        List<Map> full = isFull("history") ? read(Map.class, "history.old") : List.of();
        History dropped = new History(full, List.of(), interval());
        for (String name : states.keySet())
            dropped.spans(name).forEach(span -> append("uptime", span));
        append("history", History.line(results, context.env.now()));
    }

    History history() {
        if (history == null)
            history = new History(read(Map.class, "history.old", "history"),
                read(Span.class, "uptime.old", "uptime"), interval());
        return history;
    }

    /** The messages, of each incident together. */
    Collection<LogEntry> log() {
        Map<String, LogEntry> log = new LinkedHashMap<>();
        for (Model.Event event : read(Model.Event.class, "incidents.old", "incidents")) {
            Incident open = openIncident(event);
            boolean down = open != null && !open.isHealthy();
            log.computeIfAbsent(event.incident(), incident -> new LogEntry(down,
                down ? states.get(event.watch()).since() : null,
                open == null ? null : open.healthySince(), new ArrayList<>()))
                .messages().add(event);
        }
        return log.values();
    }

    /** null: it is over. */
    private Incident openIncident(Model.Event event) {
        Incident open = states.getOrDefault(event.watch(), WatchState.NEW).incident();
        return open != null && open.since().equals(event.since()) ? open : null;
    }

    /** The interval of the schedule; whoever installs that writes it, in seconds. null: unknown. */
    Duration interval() {
        String text = SecureFiles.readOrEmpty(folder.resolve("schedule"), 100);
        Integer seconds = Json.parse(text, Integer.class);
        return seconds != null && seconds > 0 ? Duration.ofSeconds(seconds) : null;
    }

    /** One or two passes may be missing: the machine was busy, or another pass was running. */
    boolean isLate() {
        return interval() != null && history().lastPass != null
            && history().lastPass.plus(interval().multipliedBy(3)).isBefore(context.env.now());
    }

    void saveMetrics(Rules rules, Collection<WatchResult> results) {
        if (rules.metrics() == null || results.size() < rules.watches().size()) return;
        writeOrWarn(rules.metrics() + "", "", () -> SecureFiles.write(rules.metrics(),
            Metrics.text(results, this, context.env.now()), SecureFiles.PUBLIC));
    }

    /** Without the number of a temporary file two warnings of one failure are equal. */
    private Path writeOrWarn(String what, String effect, SecureFiles.IOSupplier<Path> writing) {
        return !writable ? null : SecureFiles.orElse(writing, e -> {
            String why = Text.thrown(e).replaceAll("\\d+[.]tmp", ".tmp");
            context.printer.warn(what + " cannot be written (" + why + ")" + effect);
            return null;
        });
    }
}

/** What one pass saw, as History.line writes it. */
record Sample(Instant at, String text) {
    char verdict() { return text.charAt(0); }
    boolean isHealthy() { return verdict() == 'h' || verdict() == 'r'; }
    boolean isJudged() { return isHealthy() || verdict() == 'u'; }
}

/** A time in which a service was up, or was not. */
record Span(String watch, Instant from, Instant to, boolean up) {
    /** In per cent, rounded down: 100 is only without an outage. null: nothing is known. */
    static Double uptime(List<Span> spans, Instant begin, Instant end) {
        long up = 0, known = 0;
        for (Span span : spans) {
            Instant from = span.from.isAfter(begin) ? span.from : begin;
            long time = from.until(Text.earlier(span.to, end), ChronoUnit.SECONDS);
            if (time > 0) known += time;
            if (time > 0 && span.up) up += time;
        }
        return known == 0 ? null : Math.floor(10_000.0 * up / known) / 100;
    }
}

/** What passes saw; {@code older}: what is left of passes that were dropped. */
final class History {
    private static final Pattern SAMPLE = Pattern.compile("[hruip]\\d{1,9}( -?\\d{1,6})?");
    private final Map<String, List<Sample>> samples = new HashMap<>();
    private final List<Span> older;
    private final long longestGap;
    Instant lastPass; // null: there was none

    /** {@code interval}: of the schedule now; null: unknown. Passes by hand come sooner. */
    History(List<Map> passes, List<Span> older, Duration interval) {
        this.older = older;
        List<Long> gaps = new ArrayList<>();
        for (Map<?, ?> pass : passes) {
            if (!(pass.get("") instanceof Number seconds)) continue;
            Instant before = lastPass;
            lastPass = Instant.ofEpochSecond(Integer.toUnsignedLong(seconds.intValue()));
            if (before != null) gaps.add(before.until(lastPass, ChronoUnit.SECONDS));
            pass.forEach((name, seen) -> {
                if (SAMPLE.matcher("" + seen).matches()) samples.computeIfAbsent((String) name,
                    first -> new ArrayList<>()).add(new Sample(lastPass, (String) seen));
            });
        }
        Collections.sort(gaps);
        long usual = gaps.isEmpty() ? 0 : gaps.get(gaps.size() / 2);
        longestGap = 3 * Math.max(usual, interval == null ? 60 : interval.toSeconds());
    }

    List<Sample> samples(String name) {
        return samples.getOrDefault(name, List.of());
    }

    /**
     * `{"":1795334705,"plex":"h143 62"}`: the verdict's first letter, or r if the pass healed it;
     * milliseconds; days until the certificate expires.
     */
    static Map<String, Object> line(Collection<WatchResult> results, Instant now) {
        Map<String, Object> line = new LinkedHashMap<>(Map.of("", now.getEpochSecond()));
        for (WatchResult r : results) {
            X509Certificate server = r.check.response().certificate();
            String days = server == null ? ""
                : " " + now.until(server.getNotAfter().toInstant(), ChronoUnit.DAYS);
            line.put(r.watch.name(), (r.healed ? 'r' : r.verdict().word().charAt(0))
                + "" + r.check.response().time().toMillis() + days);
        }
        return line;
    }

    Instant lastHealthy(String name) {
        return samples(name).stream().filter(Sample::isHealthy).reduce((a, b) -> b)
            .map(Sample::at).orElse(null);
    }

    /**
     * The time between two healthy passes is up, that before or after an unhealthy one is down. A
     * gap of more than three usual intervals is unknown: the machine slept or was off.
     */
    List<Span> spans(String name) {
        LinkedList<Span> spans = new LinkedList<>(older);
        spans.removeIf(span -> !span.watch().equals(name));
        Sample before = new Sample(Instant.EPOCH, "?");
        for (Sample now : samples(name)) {
            boolean up = now.verdict() == 'h' && before.isHealthy();
            boolean known = before.isJudged() && now.isJudged()
                && before.at().until(now.at(), ChronoUnit.SECONDS) <= longestGap;
            if (known) {
                Span last = spans.peekLast();
                boolean goesOn = last != null && last.up() == up && last.to().equals(before.at());
                Instant from = goesOn ? spans.removeLast().from() : before.at();
                spans.add(new Span(name, from, now.at(), up));
            }
            before = now;
        }
        return spans;
    }
}

/** Keeps files whole, and safe from other users. */
final class SecureFiles {
    /** Users are compared by number: in a container a user may have no name. */
    private static final int UID = uid();
    private static final List<Integer> OWNERS = List.of(0, UID); // root may change all anyway
    static final FileAttribute<Set<PosixFilePermission>> PRIVATE = mode("rw-------"),
        PUBLIC = mode("rw-r--r--");
    private static final FileAttribute<Set<PosixFilePermission>> FOLDER = mode("rwx------");
    private static final Set<OpenOption> OPTIONS = Set.of(StandardOpenOption.CREATE,
        StandardOpenOption.READ, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);

    /** Java's UnixSystem takes a user without a name for root. */
    private static int uid() {
        String status = ProcessStat.proc("self/status");
        Matcher uid = Pattern.compile("Uid:\\s+\\d+\\s+(\\d+)").matcher(status);
        return uid.find() ? Integer.parseInt(uid.group(1)) : (int) new UnixSystem().getUid();
    }

    private static FileAttribute<Set<PosixFilePermission>> mode(String mode) {
        return PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(mode));
    }

    /** No link, pipe or device, and not of another user; of a folder, each entry. */
    static boolean isOurs(Path file) {
        try {
            Map<String, Object> is = Files.readAttributes(file,
                "unix:uid,isRegularFile,isDirectory", LinkOption.NOFOLLOW_LINKS);
            File[] entries = file.toFile().listFiles(); // null: it is no folder
            return OWNERS.contains(is.get("uid")) && is.containsValue(true) && (entries == null
                || Stream.of(entries).allMatch(entry -> isOurs(entry.toPath())));
        } catch (IOException vanished) {
            return true;
        }
    }

    /** Renames what is not ours in our folder, and deletes what killed passes have left. */
    static void tidy(Path folder, Instant now, Consumer<String> warning) throws IOException {
        for (File entry : folder.toFile().listFiles()) {
            Path file = entry.toPath();
            boolean strange = !isOurs(file) && !entry.getName().endsWith(".broken");
            if (strange) warning.accept(Files.move(file, broken(file),
                StandardCopyOption.REPLACE_EXISTING) + " was not a file of yours;"
                + " watchdog has renamed it");
            boolean old = entry.lastModified() < now.minus(Duration.ofDays(1)).toEpochMilli();
            if (old && entry.getName().endsWith(".tmp") && !entry.delete())
                warning.accept("cannot delete the temporary file " + file);
        }
    }

    static Path broken(Path file) { return file.resolveSibling(file.getFileName() + ".broken"); }

    /**
     * The file that a path leads to. Each folder and each link on the way counts: who can change
     * one of them can put another file in the place of this one, also after it was checked.
     */
    static Path trusted(Path path) throws IOException {
        path.toRealPath(); // throws for a missing file, and for links that lead in a circle
        return follow(path.toAbsolutePath());
    }

    private static Path follow(Path path) throws IOException {
        Path file = path.getParent() == null ? path
            : follow(path.getParent()).resolve(path.getFileName());
        check(file);
        return !Files.isSymbolicLink(file) ? file
            : follow(file.resolveSibling(Files.readSymbolicLink(file)).normalize());
    }

    /** Throws when another user could change the file, or the content of the folder. */
    private static void check(Path file) throws IOException {
        var is = Files.readAttributes(file, "unix:uid,owner,group,mode", LinkOption.NOFOLLOW_LINKS);
        String owner = is.get("owner").toString();
        if (!OWNERS.contains(is.get("uid"))) throw new IOException(file + " belongs to user "
            + owner + ", who could change it; fix it with: chown " + UID + " '" + file + "'");
        int mode = (Integer) is.get("mode");
        boolean privateGroup = is.get("group").toString().equals(owner); // umask 002
        boolean open = (mode & 002) != 0
            || (mode & 020) != 0 && (!privateGroup || CommandRunner.hasAcl(file));
        boolean sticky = Files.isDirectory(file) && (mode & 01000) != 0;
        if (open && !sticky && !Files.isSymbolicLink(file))
            throw new IOException("other users can change " + file + (UID == 0
                || is.get("uid").equals(UID) ? "; fix it with: chmod go-w '" + file + "'"
                : "; use a folder of your own"));
    }

    /** Made if it is missing; throws when others can change it, or when we cannot write to it. */
    static Path folder(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) Files.createDirectories(folder, FOLDER);
        return Files.setPosixFilePermissions(trusted(folder), FOLDER.value());
    }

    static String read(Path file, int maxBytes) throws IOException {
        try (var in = Files.newInputStream(file, LinkOption.NOFOLLOW_LINKS)) {
            byte[] bytes = in.readNBytes(maxBytes + 1);
            if (bytes.length > maxBytes) throw new IOException("it is too long");
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }

    static String readOrEmpty(Path file, int maxBytes) {
        return orElse(() -> read(file, maxBytes), unreadable -> "");
    }

    /** To a temporary file, forced to disk, then moved; the folder is forced too, for the move. */
    static Path write(Path file, String text) throws IOException {
        return write(file, text, PRIVATE);
    }

    static Path write(Path file, String text, FileAttribute<?> mode) throws IOException {
        Path temporary =
            Files.createTempFile(file.getParent(), "." + file.getFileName(), ".tmp", mode);
        try (FileChannel channel = FileChannel.open(temporary, OPTIONS);
             FileChannel folder = FileChannel.open(file.getParent())) {
            write(channel, text);
            channel.force(true);
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
            folder.force(true);
            return file;
        } finally {
            temporary.toFile().delete(); // there is none once it is moved
        }
    }

    private static FileChannel write(FileChannel channel, String text) throws IOException {
        Channels.newOutputStream(channel).write(text.getBytes(StandardCharsets.UTF_8)); // all
        return channel;
    }

    /** A crash may have cut the last line: then it is ended first. */
    static Path append(Path file, String line) throws IOException {
        try (FileChannel channel = FileChannel.open(file, OPTIONS, PRIVATE)) {
            ByteBuffer last = ByteBuffer.wrap(new byte[] {'\n'});
            channel.read(last, Math.max(0, channel.size() - 1));
            String begin = last.get(0) == '\n' ? "" : "\n";
            write(channel.position(channel.size()), begin + line + "\n");
            return file;
        }
    }

    /**
     * The kernel's lock: gone with the process, however that ends. Closing any other channel to
     * the file would release it, so its holder opens it only here. Its text says who holds it; a
     * pass that reports it as hanging appends that.
     */
    static FileChannel lock(Path file, Instant now) throws IOException {
        FileChannel channel = FileChannel.open(file, OPTIONS, PRIVATE);
        if (channel.tryLock() == null) {
            channel.close();
            throw new OverlappingFileLockException();
        }
        return orElse(() -> write(channel.truncate(0), " (pid " + ProcessHandle.current().pid()
            + ", since " + Text.at(now) + ")"), fullDisk -> channel);
    }

    interface IOSupplier<T> { T get() throws IOException; }

    /** For what may fail; also for file systems without permissions and locales without a name. */
    static <T> T orElse(IOSupplier<T> action, Function<Exception, T> otherwise) {
        try {
            return action.get();
        } catch (IOException | UnsupportedOperationException | InvalidPathException e) {
            return otherwise.apply(e);
        }
    }
}

/** JSON from records and back, by the names and types of their components. */
record Json(UnaryOperator<String> mask) implements JsonGenerator.Converter {
    /** Fields with values that programs compare: a secret such as `plex` does not change them. */
    private static final Set<String> KEYS = Set.of("name", "verdict", "state", "recent");
    private static final JsonGenerator WRITER = writer(UnaryOperator.identity());

    static String text(Object value) { return WRITER.toJson(value); }

    /** Secrets are masked in the values: in the text they could be a part of the JSON. */
    static JsonGenerator writer(UnaryOperator<String> mask) {
        return new JsonGenerator.Options().addConverter(new Json(mask)).build();
    }

    /** A map of names and values, without those that are null. */
    static Map<String, Object> fields(Object... pairs) {
        Map<String, Object> fields = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2)
            if (pairs[i + 1] != null) fields.put((String) pairs[i], pairs[i + 1]);
        return fields;
    }

    @Override public boolean handles(Class<?> type) {
        return Stream.of(Number.class, Boolean.class, Map.class, Collection.class)
            .noneMatch(known -> known.isAssignableFrom(type));
    }

    @Override public Object convert(Object value, String key) {
        boolean masked = value instanceof CharSequence && !KEYS.contains("" + key);
        if (!(value instanceof Record)) return masked ? mask.apply("" + value) : "" + value;
        Map<String, Object> fields = new LinkedHashMap<>();
        try {
            for (RecordComponent component : value.getClass().getRecordComponents()) {
                Object field = component.getAccessor().invoke(value);
                if (field != null) fields.put(component.getName(), field);
            }
            return fields;
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** null: the JSON is not of that type. Later times than {@code latest} become that. */
    static <T> T as(Class<T> type, Object json, Instant latest) {
        try {
            return type.cast(value(type, json, latest));
        } catch (RuntimeException otherType) {
            return null;
        }
    }

    private static Object value(Type type, Object json, Instant latest) {
        if (json == null) return null;
        if (type instanceof ParameterizedType list) return ((List<?>) json).stream()
            .map(each -> Objects.requireNonNull(
                value(list.getActualTypeArguments()[0], each, latest))).toList();
        Class<?> target = (Class<?>) type;
        if (target == Instant.class) // with a sign the year has more digits, and would overflow
            return Text.earlier(Instant.parse(((String) json).replaceFirst("^[+-]", "")), latest);
        if (target.isEnum()) return Stream.of(target.getEnumConstants())
            .filter(constant -> constant.toString().equals(json)).findFirst().orElseThrow();
        return target.isRecord() ? record(target, (Map<?, ?>) json, latest) : json;
    }

    private static Object record(Class<?> type, Map<?, ?> json, Instant latest) {
        Object[] values = Stream.of(type.getRecordComponents()).map(part -> {
            Object value = value(part.getGenericType(), json.get(part.getName()), latest);
            return part.isAnnotationPresent(Nullable.class) ? value : Objects.requireNonNull(value);
        }).toArray();
        try {
            return type.getDeclaredConstructors()[0].newInstance(values); // records have one
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(e);
        }
    }

    /** By a path such as a.b[0].c; null: there is no such value, or the text is not JSON. */
    @SuppressWarnings("rawtypes")
    static Comparable at(String text, String path) {
        Object value = parse(text, Object.class);
        for (String key : path.split("[.\\[\\]]+")) value = child(value, key);
        return value == null || value instanceof Comparable ? (Comparable) value
            : JsonOutput.toJson(value);
    }

    /** null: it is not JSON of that type. */
    static <T> T parse(String text, Class<T> type) {
        try {
            return as(type, new JsonSlurper().parseText(text), Text.FOREVER);
        } catch (RuntimeException | StackOverflowError notJson) {
            return null;
        }
    }

    private static Object child(Object value, String key) {
        if (key.isEmpty()) return value;
        if (value instanceof Map<?, ?> map) return map.get(key);
        if (!(value instanceof List<?> list)) return null;
        if (key.equals("size")) return list.size();
        int index = key.matches("\\d{1,9}") ? Integer.parseInt(key) : Integer.MAX_VALUE;
        return index < list.size() ? list.get(index) : null;
    }
}

// === 10. The rules language ====================================================================
// rules.groovy is plain Groovy, statically compiled. Each block declares its words, so that a
// mistake anywhere is found when the file is loaded. The public methods below are the language;
// docs/reference.groovy shows each of them in use.

/** The words of rules.groovy. Public, because a script lives in another class loader. */
interface Language extends Model {
    /** A parameter that is given by name, as in `limit 3, per: 1.hour`; null if it is not given. */
    @Retention(RetentionPolicy.RUNTIME) @Target(ElementType.PARAMETER)
    @interface Named { boolean required() default false; }

    /** Groovy would find these words on Object or Closure, so their methods have this suffix. */
    Set<String> RENAMED = Set.of("run", "notify", "call", "command");
    String SUFFIX = "Word";

    static String wordOf(String method) {
        return method.matches("get[A-Z].*") ? uncapitalize(method.substring(3))
            : method.replaceFirst(SUFFIX + "$", "");
    }

    /** The words at the top of the file. */
    abstract class RulesScript extends SharedWords {
        protected abstract Object run();

        /** A service to watch; its name is unique, on one line, up to 60 characters. */
        public void watch(String name,
                @DelegatesTo(value = WatchSpec.class, strategy = DELEGATE_FIRST) Closure<?> block) {
            Watch watch = RulesLoader.run(block, new WatchSpec(loader, name)).build();
            if (loader.watches.putIfAbsent(name, watch) != null)
                loader.mistake("there are two watches with the name '" + name + "'");
        }
        /** Folders to search for programs before PATH: absolute, or beginning with ~/. */
        public void path(String... folders) {
            for (String folder : folders) {
                String full = folder.replaceFirst("^~/", loader.env.home() + "/");
                loader.path.add(full);
                loader.require("path", folder, full.matches("/[^:]*"),
                    "an absolute folder; write, for example, '/opt/homebrew/bin' or '~/bin'");
            }
        }
        /** A URL to request at the end of each pass: a dead man's switch. */
        public void heartbeat(String url) {
            String unsent = loader.reportMissing(url, "the heartbeat is not sent");
            loader.heartbeat = unsent == null ? loader.url("heartbeat", url) : null;
        }
        /** A file for the textfile collector of Prometheus' node exporter, written at the end of
         *  each pass over all watches; default none. Its name must end in .prom. */
        public void metrics(String file) {
            loader.metrics = loader.file.resolveSibling(file);
            loader.require("metrics", file, file.endsWith(".prom"),
                "a name that ends in .prom; the node exporter ignores other files");
        }
        /** How long a whole pass may take; default 4.minutes. */
        public void deadline(Duration time) { loader.deadline = loader.positive("deadline", time); }
        /** A remedy for several watches: `def tunnel = restart { … }`, then `restart tunnel`. */
        public Remedy restart(
                @DelegatesTo(value = RemedySpec.class, strategy = DELEGATE_FIRST)
                Closure<?> steps) {
            return loader.remedy(steps);
        }
    }

    /** The words of the file and of watch { }; those with a value can be used in every block. */
    abstract class SharedWords {
        RulesLoader loader;
        String watchName = ""; // at the top there is none
        List<Hook> hooks = new ArrayList<>();
        public final EventKind down = EventKind.down, healed = EventKind.healed,
            still_down = EventKind.still_down, gave_up = EventKind.gave_up,
            flapping = EventKind.flapping, recovered = EventKind.recovered,
            reminder = EventKind.reminder, inconclusive = EventKind.inconclusive,
            rules_broken = EventKind.rules_broken;

        /** A hook for the watch around it, or at the top for every watch. `on:` lists the kinds of
         *  event, default all; `orElse:` is a second hook for when this one fails. */
        public void notifyWord(Hook hook, @Named List<?> on, @Named Hook orElse) {
            if (hook == null) { // its secret is missing
                if (orElse != null) notifyWord(orElse, on, null);
                return;
            }
            Set<EventKind> kinds = EnumSet.of(EventKind.test);
            for (Object kind : on == null ? hook.on() : on) {
                loader.require("on:", kind, kind instanceof EventKind, "a kind such as gave_up");
                if (kind instanceof EventKind known) kinds.add(known);
            }
            Hook attached = new Hook(hook.label(), hook.id(), hook.sender(), kinds, orElse);
            loader.hooks.merge(hook.id(), attached, Hook::with);
            hooks.add(attached);
        }
        /** Custom Groovy code as a hook: `notify { event -> … }`. */
        public void notifyWord(@ClosureParams(value = SimpleType.class, options = "Model$Event")
                Closure<?> block, @Named List<?> on, @Named Hook orElse) {
            Closure<?> kept = RulesLoader.keepValues(block);
            notifyWord(loader.hook("closure", watchName + " " + hooks.size(), (notifier, event) -> {
                kept.call(event);
                return DeliveryResult.ACCEPTED;
            }), on, orElse);
        }
        /** A value from the environment, or else from the secrets file; it is never printed. */
        public String secret(String name) {
            String value = loader.secrets.get(name), missing = Secrets.missingIn(value);
            if (loader.loaded && missing != null) throw new IllegalStateException(missing);
            return value;
        }
        /** The variable WATCHDOG_HOST, or else the name of this machine. */
        public String getHost() { return loader.host(); }

        /** pushover.net; both keys are on its dashboard; `priority:` -2 to 2. */
        public Hook pushover(@Named(required = true) String token,
                @Named(required = true) String user, @Named Integer priority, @Named String sound,
                @Named String device, @Named String url) {
            loader.setting("token", token, "\\p{Alnum}{30}", "a key of 30 letters and digits");
            loader.setting("user", user, "(\\p{Alnum}{30},?)+", "a key of 30 letters and digits");
            loader.setting("priority", priority, "-?[12]|0", "a number from -2 to 2");
            boolean urgent = priority != null && priority == 2; // needs to know how to insist
            return loader.hook("pushover", server(url, "https://api.pushover.net")
                + "/1/messages.json", null, null, event -> Json.fields("token", token, "user",
                    user, "priority", priority, "title", Text.cut(event.title(), 250), "message",
                    Text.cut(event.text(), 1024), "sound", sound, "device", device, "timestamp",
                    event.at().getEpochSecond(), "retry", urgent ? 60 : null,
                    "expire", urgent ? 3600 : null));
        }
        /** ntfy.sh, or your own server with `url:`, `trust:` its PEM file; `priority:` 1 to 5. */
        public Hook ntfy(@Named(required = true) String topic, @Named String token,
                @Named Integer priority, @Named List<String> tags, @Named String url,
                @Named String trust) {
            loader.require("url:", url, url == null || !url.endsWith("/" + topic),
                "the address of the server, without the topic");
            loader.setting("topic", topic, "[\\w-]{1,64}", "1 to 64 letters, digits, _ and -");
            loader.setting("priority", priority, "[1-5]", "a number from 1 to 5");
            return loader.hook("ntfy", server(url, "https://ntfy.sh") + "/",
                token == null ? null : Map.of("Authorization", "Bearer " + token), trust,
                event -> Json.fields("topic", topic, "title", Text.cut(event.title(), 250),
                    "priority", priority, "message", Text.cut(event.text(), 1300), "tags", tags));
        }
        /** A Slack incoming webhook, or one of Mattermost; `trust:` as in ntfy. */
        public Hook slack(@Named(required = true) String url, @Named String trust) {
            return loader.hook("slack", url, null, trust, event -> Map.of("text",
                Text.cut(event.title() + "\n" + event.text(), 3000).replace("&", "&amp;")
                    .replace("<", "&lt;").replace(">", "&gt;")));
        }
        /** A Discord webhook. */
        public Hook discord(@Named(required = true) String url) {
            return loader.hook("discord", url, null, null, event -> Map.of("content",
                Text.cut((event.title() + "\n" + event.text())
                    .replaceAll("[\\\\*_~`|<\\[]", "\\\\$0"), 2000),
                "allowed_mentions", Map.of("parse", List.of())));
        }
        /** A Telegram bot, and the chat that it writes to. */
        public Hook telegram(@Named(required = true) String token,
                @Named(required = true) String chat, @Named String url) {
            return loader.hook("telegram", server(url, "https://api.telegram.org") + "/bot" + token
                + "/sendMessage", null, null, event -> Map.of("chat_id", chat,
                "text", Text.cut(event.title() + "\n" + event.text(), 4096)));
        }
        /** POSTs {kind, watch, title, text, at, since} as JSON; `trust:` as in ntfy. */
        public Hook webhook(String url, @Named Map<String, String> headers, @Named String trust) {
            return loader.hook("webhook", url, headers, trust, event -> event);
        }
        /** POSTs what the block returns: `webhook(url) { event -> [text: event.title] }`. */
        public Hook webhook(String url, @ClosureParams(value = SimpleType.class,
                options = "Model$Event") Closure<?> json, @Named Map<String, String> headers,
                @Named String trust) {
            Closure<?> kept = RulesLoader.keepValues(json); // runs only when there is a message
            return loader.hook("webhook", url, headers, trust, event ->
                event == RulesLoader.NO_EVENT ? json.getClass() : kept.call(event));
        }
        private static String server(String own, String usual) {
            return (own == null ? usual : own).replaceFirst("/+$", "");
        }
        /** Runs a command with the message as last argument, and in WATCHDOG_* variables. */
        public Hook commandWord(String command) {
            List<String> words = loader.valid(() -> ShellWords.of(command), List.of("?"));
            return loader.hook("command " + Text.program(words), command, new CommandSender(words));
        }
    }

    /** The words of watch { }. */
    class WatchSpec extends SharedWords {
        public final RedirectPolicy none = RedirectPolicy.none, any = RedirectPolicy.any,
            sameHost = RedirectPolicy.sameHost;
        private final Set<String> dependencies = new LinkedHashSet<>();
        private final List<Remedy> remedies = new ArrayList<>();
        private final Map<String, String> headers = new LinkedHashMap<>();
        private int targets;
        private InetSocketAddress connectTo;
        private Probe probe;
        private String url, method, body, mediaType = "application/json";
        private RedirectPolicy redirects = sameHost;
        private Path trust;
        private Expectation healthy;
        private Duration timeout = Duration.ofSeconds(10), every = Duration.ofSeconds(2),
            per = Duration.ofHours(1), within = Duration.ofSeconds(30), remind = Duration.ofDays(1);
        private int attempts = 2, samples = 1, good = 1, failures = 1, limit = 3;

        WatchSpec(RulesLoader loader, String name) {
            this.loader = loader;
            this.watchName = name;
        }

        /** What to request; http or https. */
        public void url(String address) {
            targets++;
            url = loader.url("url", address);
        }
        /** A port that must accept a connection, as 'host:port'. */
        public void tcp(String address) {
            targets++;
            probe = new TcpProbe(loader.address("tcp", address));
        }
        /** Must exit with 0. In healthy, status is the exit code and body is the output. */
        public void command(String text) {
            targets++;
            probe = loader.valid(() -> new CommandProbe(ShellWords.of(text)), null);
        }
        /** Where to send the same request instead, as 'host:port', for example past a tunnel. */
        public void connectTo(String address) { connectTo = loader.address("connectTo", address); }
        /** The HTTP method; default GET, or POST with send. */
        public void method(String verb) { method = verb.toUpperCase(Locale.ROOT); }
        /** A request header. */
        public void header(String name, String value) { headers.put(name, value); }
        /** User and password for HTTP basic authentication. */
        public void basicAuth(String user, String password) {
            String basic = Credentials.basic(user, password, StandardCharsets.UTF_8);
            loader.secrets.hide(basic.substring("Basic ".length()));
            String missing = Secrets.missingIn(user + password);
            header("Authorization", missing == null ? basic : user + password);
        }
        /** A bearer token. */
        public void bearer(String token) { header("Authorization", "Bearer " + token); }
        /** The body of the request; `type:` its media type, default application/json. */
        public void send(String text, @Named String type) {
            body = text;
            if (method == null) method = "POST";
            if (type != null) mediaType = type;
        }
        /** A PEM file with your own certificate authorities, trusted beside the system's. */
        public void trust(String file) { trust = loader.certificates(file); }
        /** none, sameHost (default) or any; a redirect from https to http is never followed. */
        public void followRedirects(RedirectPolicy policy) { redirects = policy; }
        /** Conditions that must all be true, one a line; default `status in 200..299`. */
        public void healthy(Expectation conditions) {
            refuse(healthy != null, "has two healthy blocks; write one");
            healthy = conditions;
        }
        /** How long a check may take: DNS, connection, TLS and body; default 10.seconds. */
        public void timeout(Duration time) { timeout = loader.positive("timeout", time); }
        /** How often to try before it counts as unhealthy, default 2; `every:` the pause between,
         *  default 2.seconds. */
        public void attempts(int number, @Named Duration every) {
            attempts = loader.atLeastOne("attempts", number);
            if (every != null) this.every = loader.positive("every", every);
        }
        /** Checks on fresh connections, default 1; `good:` how many must be good, default all. */
        public void samples(int number, @Named Integer good) {
            samples = loader.atLeastOne("samples", number);
            this.good = good == null ? number : loader.require("good:", good,
                good >= 1 && good <= number, "a number from 1 to " + number);
        }
        /** How many of the last 2n-1 passes are unhealthy before a restart; default 1. */
        public void failures(int passes) { failures = loader.atLeastOne("failures", passes); }
        /** Watches above this one; while one of them is unhealthy, a failure of this one is not
         *  judged. */
        public void needs(String... watches) {
            Set<String> above = loader.watches.keySet(); // so there are no circles
            for (String watch : watches) loader.require("needs", watch, above.contains(watch),
                "the name of a watch above this one" + Text.didYouMean(watch, above));
            dependencies.addAll(List.of(watches));
        }
        /** The remedy. Of several the next one is used when the last did not help. `when:` a block
         *  of conditions: this remedy is only for that cause, and comes before those without. */
        public void restart(@DelegatesTo(value = RemedySpec.class, strategy = DELEGATE_FIRST)
                Closure<?> steps, @Named Expectation when) {
            restart(loader.remedy(steps), when);
        }
        /** A remedy that was made at the top of the file. */
        public void restart(Remedy remedy, @Named Expectation when) {
            remedies.add(new Remedy(when, remedy.steps()));
        }
        /** How long the service may take to be healthy after a restart; default 30.seconds. */
        public void within(Duration time) { within = loader.positive("within", time); }
        /** The restart limit: default 3 in any `per:`, default 1.hour. Beyond it, the pause before
         *  each further restart of the same incident doubles, up to a day. */
        public void limit(int restarts, @Named Duration per) {
            limit = loader.atLeastOne("limit", restarts);
            if (per != null) this.per = loader.positive("per", per);
        }
        /** After how much silence to report again that it is still down; default 1.day. */
        public void remind(Duration time) { remind = loader.positive("remind", time); }
        private void refuse(boolean wrong, String why) {
            if (wrong) loader.mistake("watch '" + Text.plain(watchName, 60) + "' " + why);
        }

        /** Reports everything that is missing or contradictory, not only the first mistake. */
        Watch build() {
            refuse(targets == 0, "checks nothing; add url, tcp or command");
            refuse(targets > 1, "needs one url, tcp or command; found " + targets);
            boolean http = method != null || body != null || trust != null || !headers.isEmpty()
                || connectTo != null;
            refuse(probe != null && http,
                "has no url, so method, header, send, trust and connectTo mean nothing");
            refuse(watchName.isBlank() || !Text.plain(watchName, 60).equals(watchName),
                "needs a name of one line and at most 60 characters");
            String missing = loader.reportMissing("" + url + headers.values() + body + probe
                + connectTo, watchName + " is not checked");
            if (missing != null) probe = new UnusableProbe(missing);
            else if (url != null) probe = httpProbe();
            return new Watch(watchName, probe, healthy, List.copyOf(remedies),
                List.copyOf(dependencies),
                new CheckSettings(timeout, attempts, every, samples, good),
                new RestartPolicy(failures, limit, per, within, remind), hooks);
        }

        private Probe httpProbe() {
            String verb = method == null ? "GET" : method, text = body == null ? "" : body;
            boolean sends = body != null || Set.of("POST", "PUT", "PATCH").contains(verb);
            try {
                RequestBody content = !sends ? null : RequestBody.create(
                    text.getBytes(StandardCharsets.UTF_8), MediaType.get(mediaType));
                Request request = new Request.Builder().url(url).headers(Headers.of(headers))
                    .method(verb, content).build();
                return new HttpProbe(request, redirects, trust, connectTo);
            } catch (IllegalArgumentException e) {
                refuse(HttpUrl.parse(url) != null, "cannot be requested: "
                    + uncapitalize(Text.plain(e.getMessage(), 120)));
                return null;
            }
        }
    }

    /** The words of healthy { } and of restart(when: { }): what the service answered. */
    class Conditions {
        public final Failure none = Failure.none, refused = Failure.refused,
            unknownHost = Failure.unknownHost, unreachable = Failure.unreachable,
            timeout = Failure.timeout, tls = Failure.tls,
            reset = Failure.reset, closed = Failure.closed;
        private final Response response;
        private final Map<String, Object> seen = new LinkedHashMap<>();

        Conditions(Response response) { this.response = response; }

        /** none if there was a response; otherwise one of the words above. */
        public Failure getError() { return response.failure(); }
        /** The HTTP status, such as 200; of a command its exit code. */
        public int getStatus() { return saw("status", response.status()); }
        /** The body as text, up to 1 MiB after decompression; of a command its last 16 KiB. */
        public String getBody() { return saw("body", response.body()); }
        /** A response header, or null. */
        public String header(String name) {
            return saw("header('" + name + "')", response.headers().get(name));
        }
        /** All response headers by lower-case name; of several with one name, the last. */
        public Map<String, String> getHeaders() {
            Map<String, String> headers = new TreeMap<>();
            response.headers().toMultimap().forEach((name, values) ->
                headers.put(name, values.get(values.size() - 1)));
            return saw("headers", headers);
        }
        /** A value in a JSON body, by a path such as 'a.b[0].c' or 'list.size'; null if there is
         *  no such value, or the body is not JSON. */
        @SuppressWarnings("rawtypes")
        public Comparable json(String path) {
            int most = response.protocol().equals("command") ? CommandRunner.MAX_KEPT
                : HttpProbe.MAX_BYTES;
            if (Utf8.size(response.body()) >= most)
                throw new IllegalStateException("the body is too long to read as JSON");
            return saw("json('" + path + "')", Json.at(response.body(), path));
        }
        /** How long the whole exchange took. */
        public Duration getTime() { return saw("time", response.time()); }
        /** The URL that answered, after redirects. */
        public String getUrl() { return saw("url", response.url()); }
        /** http/1.1, h2, tcp or command. */
        public String getProtocol() { return saw("protocol", response.protocol()); }
        /** The certificate of the server; without https there is none, and this line fails. */
        public ServerCertificate getCertificate() {
            if (response.certificate() == null)
                throw new IllegalStateException("no certificate: the URL is not https");
            ServerCertificate certificate = new ServerCertificate(response.certificate());
            saw("certificate.expiresIn", certificate.getExpiresIn());
            return certificate;
        }

        private <T> T saw(String word, T value) {
            seen.put(word, value);
            return value;
        }

        /** A condition that is not true, with the values that its words had. */
        String explain(String condition, String withoutTexts) {
            List<String> words = seen.keySet().stream().filter(word -> !word.equals("body")
                && withoutTexts.contains(word.split("\\(")[0])).toList();
            boolean good = response.isHealthyByDefault() && !withoutTexts.contains("body")
                && words.stream().allMatch(word -> seen.get(word) != null);
            String values = words.isEmpty() ? "" : ", but " + Text.list(words.stream()
                .map(word -> word + " was " + (word.startsWith("json(")
                    && seen.get(word) instanceof Number ? "the number " : "")
                    + Text.value(seen.get(word))).toList());
            boolean spaces = withoutTexts.contains("body ==")
                && !response.body().equals(response.body().strip());
            return "expected " + condition + values
                + (spaces ? "; white space surrounds the body: compare body.strip()" : "")
                + (good && !words.isEmpty() ? "" : response.got(words.contains("status")));
        }
    }

    /** A block of conditions, as the rest of watchdog sees it. */
    record BlockExpectation(
            @DelegatesTo(value = Conditions.class, strategy = DELEGATE_FIRST) Closure<?> block,
            String inWords) implements Expectation {
        /** DslTransformer calls this with each block of conditions and its text. */
        public BlockExpectation { block = RulesLoader.keepValues(block); }

        @Override public FailedCondition firstFailure(Response response) {
            Conditions values = new Conditions(response);
            try {
                RulesLoader.run(block, values);
                return null;
            } catch (AssertionError failed) {
                String condition = Text.condition(failed);
                String code = condition.replaceAll("'.*?'|\".*?\"", "");
                return new FailedCondition(values.explain(condition, code),
                    Text.diagram(failed.getMessage()), code.contains("certificate."), false);
            } catch (Throwable thrown) { // rules may throw anything, such as StackOverflowError
                return new FailedCondition("a condition could not be evaluated"
                    + RulesLoader.lineOf(thrown) + ": " + Text.thrown(thrown)
                    + (response.isHealthyByDefault() ? "" : response.got(false)), null, false,
                    true);
            }
        }
    }

    /** A certificate, for conditions. */
    record ServerCertificate(X509Certificate certificate) {
        /** How long it is still valid: `certificate.expiresIn > 14.days`. */
        public Duration getExpiresIn() {
            return Duration.between(Instant.now(), certificate.getNotAfter().toInstant());
        }
        public String getSubject() { return certificate.getSubjectX500Principal().getName(); }
        public String getIssuer() { return certificate.getIssuerX500Principal().getName(); }
        @Override public String toString() { return "of " + getSubject(); }
    }

    /** The words of restart { }: steps, in order; one that fails ends the remedy. A command is a
     *  text, split into words as a shell splits it, or a list of words; no shell runs it. */
    class RemedySpec {
        final List<Step> steps = new ArrayList<>();

        /** Ends your processes that run these words or were started by them, with all that they
         *  started: SIGTERM, then SIGKILL after `grace:`, default 10.seconds. None is fine. */
        public void stop(Object command, @Named Duration grace) {
            add("stop", command, (restart, step) -> restart.stop(step, orSeconds(grace, 10)));
        }
        /** Starts a program that outlives the pass; `log:` a file for its output, which begins
         *  anew when it is over 1 MiB at a start; one old file is kept. */
        public void start(Object command, @Named String log) {
            add("start", command, (restart, step) -> restart.start(step, log));
        }
        /** Runs a command to its end. It fails if the exit code is not 0, or if it takes longer
         *  than `timeout:`, default 1.minute. */
        public void runWord(Object command, @Named Duration timeout) {
            add("run", command, (restart, step) -> restart.run(step, orSeconds(timeout, 60)));
        }
        /** Like run, but by /bin/sh: for pipes and variables. */
        public void sh(String script, @Named Duration timeout) {
            add(new Step("sh", Text.plain(script, 200), List.of("/bin/sh", "-c", script),
                (restart, step) -> restart.run(step, orSeconds(timeout, 60))));
        }
        /** Waits. Rarely needed: after the last step watchdog waits for the service anyway. */
        public void pause(Duration time) {
            add(new Step("pause", Text.time(time), List.of(),
                (restart, step) -> restart.pause(time)));
        }
        /** Custom Groovy code, run as a step in its turn. */
        public void callWord(Closure<?> code) {
            Closure<?> kept = RulesLoader.keepValues(code);
            add(new Step("call", "{ … }", List.of(), (restart, step) -> {
                kept.call();
                return "ran custom Groovy code";
            }));
        }

        private void add(String verb, Object command, Step.Code code) {
            List<String> words = ShellWords.of(command);
            add(new Step(verb, Text.command(words), words, code));
        }

        private void add(Step step) {
            if (steps.size() >= 100) throw new IllegalArgumentException(
                "restart has more than 100 steps; is its loop endless?");
            steps.add(step);
        }

        private static Duration orSeconds(Duration time, int seconds) {
            return time == null ? Duration.ofSeconds(seconds) : time;
        }
    }
}

// === 11. Loading the rules =====================================================================
// Text -> compiled classes (kept for the next pass) -> the script runs -> Rules, or all mistakes.

/** What the rules say, without a mistake. A watch stands below those that it depends on. */
record Rules(List<Watch> watches, List<Model.Hook> hooks, String heartbeat, Path metrics,
             Duration deadline, List<String> path, List<String> warnings) {
    /** The watches with these names and, above each, those that it depends on. */
    List<Watch> select(List<String> names) {
        if (names == null || names.isEmpty()) return watches;
        names.forEach(this::get);
        Set<String> wanted = new HashSet<>(names);
        for (int i = watches.size() - 1; i >= 0; i--) {
            Watch watch = watches.get(i);
            if (wanted.contains(watch.name())) wanted.addAll(watch.dependencies());
        }
        return watches.stream().filter(watch -> wanted.contains(watch.name())).toList();
    }

    Watch get(String name) {
        for (Watch watch : watches) if (watch.name().equals(name)) return watch;
        List<String> names = watches.stream().map(Watch::name).toList();
        var known = Stream.concat(names.stream(), watchdog.commands().stream()).toList();
        ExitException.mistakeIf(watchdog.TOOLS.contains(name), name + " is a separate script;"
            + " run it with: jbang " + name + "@catalog");
        String hint = Text.didYouMean(name, known)
            + (name.matches(".*[./:].*") ? "; a URL begins with https:// or http://" : "");
        throw ExitException.mistake("watchdog: no watch and no command is called '" + name + "'"
            + (hint.isEmpty() ? "; there is: " + Text.cut(String.join(", ", names), 80) : hint));
    }
}

/** Loads a rules file, and collects what it says and all its mistakes. */
final class RulesLoader {
    static final String SCRIPT = "rules"; // a fixed class name: rules cannot shadow a class of ours
    private static final Duration MAX_LOADING = Duration.ofSeconds(10);
    static final Model.Event NO_EVENT = new Model.Event(Model.EventKind.test, "", "", "",
        Instant.EPOCH, Instant.EPOCH);
    final Path file;
    final Environment env;
    final Secrets secrets;
    private final Mistakes mistakes;
    final Map<String, Watch> watches = new LinkedHashMap<>();
    final Map<String, Model.Hook> hooks = new LinkedHashMap<>();
    private final List<Model.Hook> globalHooks = new ArrayList<>();
    final List<String> path = new ArrayList<>();
    private final List<String> warnings = new ArrayList<>();
    Duration deadline = Duration.ofMinutes(4);
    String heartbeat;
    private String host;
    Path metrics;
    boolean loaded; // true in blocks that run later, such as those of conditions

    private RulesLoader(Path file, String text, Environment env, Secrets secrets) {
        this.file = file;
        this.env = env;
        this.secrets = secrets;
        mistakes = new Mistakes(file.getFileName().toString(), text);
    }

    static Path find(Path option, Environment env) {
        if (option != null) return env.cwd().resolve(option).normalize();
        Path here = env.cwd().resolve("rules.groovy");
        if (Files.exists(here)) return here;
        Path home = env.folder("XDG_CONFIG_HOME", ".config").resolve("watchdog/rules.groovy");
        return Files.exists(home) ? home : here;
    }

    /** Reads the bytes once, so that what was checked is what is compiled. */
    static String read(Path file) {
        if (!Files.exists(file)) throw ExitException.mistake("watchdog: there is no rules file "
            + file + "; to write one: watchdog setup URL (or: jbang setup@catalog URL); to use"
            + " another: --rules FILE");
        ExitException.mistakeIf(!Files.isRegularFile(file), file + " is not a file");
        try {
            return Files.readString(SecureFiles.trusted(file)).replaceFirst("^\uFEFF", "");
        } catch (CharacterCodingException e) {
            throw ExitException.mistake("watchdog: " + file + " is not a text in UTF-8");
        } catch (IOException e) {
            throw ExitException.mistake("watchdog: cannot use " + file + ": " + Text.thrown(e));
        }
    }

    /** Uses the compiled classes of this very text, if there are any and they are intact. */
    static Rules load(Path file, String text, Environment env, Secrets secrets,
                      CompiledRules compiled) {
        Class<?> kept = compiled.load(text);
        if (kept != null) {
            RulesLoader loader = new RulesLoader(file, text, env, secrets);
            Throwable thrown = loader.run(kept);
            if (!(thrown instanceof LinkageError)) return loader.rules(thrown); // else damaged
        }
        RulesLoader loader = new RulesLoader(file, text, env, secrets);
        Path classes = compiled.newFolder();
        try {
            Class<?> script = RulesCompiler.compile(text, classes, loader.mistakes);
            Rules rules = loader.rules(loader.run(script));
            compiled.keep(text, classes);
            return rules;
        } finally {
            CompiledRules.delete(classes);
        }
    }

    /** Runs the script in its own thread, as it may never end. Returns what it threw, or null. */
    private Throwable run(Class<?> type) {
        Future<Throwable> run = DaemonThreads.POOL.submit(() -> {
            try {
                var script = (Language.RulesScript) type.getDeclaredConstructor().newInstance();
                script.loader = this;
                script.hooks = globalHooks;
                script.run();
                return null;
            } catch (Throwable thrown) {
                return thrown;
            }
        });
        Throwable thrown = DaemonThreads.get(run, MAX_LOADING, new TimeoutException());
        run.cancel(true);
        return thrown;
    }

    private Rules rules(Throwable thrown) {
        if (thrown instanceof TimeoutException)
            throw ExitException.mistake(file.getFileName() + ": the rules were still running after "
                + Text.time(MAX_LOADING) + "; is there an endless loop?");
        if (thrown != null) mistakes.add(lineIn(thrown), 0, thrown instanceof AssertionError failed
            ? "this is not true: " + Text.condition(failed) : Text.thrown(thrown));
        if (watches.isEmpty() && mistakes.isEmpty())
            mistakes.add(0, 0,
                "there is no watch; write at least watch('name') { url 'https://…' }");
        mistakes.throwIfAny();
        loaded = true;
        watches.values().forEach(watch -> watch.hooks().addAll(0, globalHooks));
        return new Rules(List.copyOf(watches.values()), List.copyOf(hooks.values()), heartbeat,
            metrics, deadline, List.copyOf(path), List.copyOf(warnings));
    }

    // -- called by the words of the rules

    /** Runs a block with the words of {@code spec}; the block itself does not change. */
    static <T> T run(Closure<?> block, T spec) {
        Closure<?> copy = block.rehydrate(spec, block.getOwner(), block.getThisObject());
        copy.setResolveStrategy(DELEGATE_FIRST);
        copy.call();
        return spec;
    }

    /** A copy with the present values of its variables: Groovy's `for` changes one variable. */
    static Closure<?> keepValues(Closure<?> block) {
        Closure<?> copy = (Closure<?>) block.clone();
        try {
            for (Field field : copy.getClass().getDeclaredFields()) {
                if (field.getType() != Reference.class) continue;
                field.setAccessible(true);
                field.set(copy, new Reference<>(((Reference<?>) field.get(copy)).get()));
            }
            return copy;
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    Model.Remedy remedy(Closure<?> block) {
        Language.RemedySpec spec = new Language.RemedySpec();
        valid(() -> run(block, spec), spec);
        String missing = reportMissing("" + spec.steps, "this restart would fail");
        // One step instead, or it would stop what it cannot start.
        return new Model.Remedy(null, missing == null ? List.copyOf(spec.steps)
            : List.of(new Step("fail", "since " + missing, List.of(), (restart, step) -> {
                throw new IllegalStateException(missing);
            })));
    }

    /** The value, or a mistake and {@code instead}, so that later mistakes are found too. */
    <T> T valid(Supplier<T> value, T instead) {
        try {
            return value.get();
        } catch (IllegalArgumentException e) {
            mistakes.add(lineIn(e), 0, e.getMessage());
            return instead;
        }
    }

    /** A hook that POSTs JSON; {@code given}: headers, or null. */
    Model.Hook hook(String label, String url, Map<String, String> given, String trust,
                    Function<Model.Event, ?> json) {
        String address = url(label, url);
        Map<String, String> headers = given == null ? Map.of() : given;
        Path authorities = certificates(trust);
        return hook(label, address + headers + json.apply(NO_EVENT), (notifier, event) ->
            notifier.exchange(new Request.Builder().url(address).headers(Headers.of(headers))
                .post(RequestBody.create(Json.text(json.apply(event)),
                    MediaType.get("application/json"))).build(),
                authorities, event.at(), label.equals("pushover")));
    }

    String host() {
        if (host == null) host = env.host();
        return host;
    }

    Path certificates(String name) {
        Path pem = name == null ? null : file.resolveSibling(name);
        try {
            if (pem != null) HttpClients.trust(new OkHttpClient(), pem);
        } catch (IllegalStateException e) {
            warn(e.getMessage());
        }
        return pem;
    }

    /** The same settings make the same hook, also in the next pass; null: a secret is missing. */
    Model.Hook hook(String label, String settings, Sender sender) {
        if (reportMissing(settings, label + " sends nothing") != null) return null;
        String id = label + "-" + Text.hash(settings).substring(0, 8);
        return new Model.Hook(label, id, sender, EnumSet.allOf(Model.EventKind.class), null);
    }

    /** A mistake unless the value is {@code right}, or a missing secret, which is reported anyway;
     *  {@code what}: what would be right. */
    <T> T require(String word, T value, boolean right, String what) {
        if (!right && Secrets.missingIn("" + value) == null)
            mistake(word + " " + Text.value(value) + " is not " + what);
        return value;
    }

    /** An option of a hook, as its service accepts it. */
    void setting(String option, Object value, String pattern, String what) {
        require(option + ":", value, value == null || ("" + value).matches(pattern), what);
    }

    String url(String word, String url) {
        HttpUrl parsed = HttpUrl.parse(url);
        if (parsed != null) secrets.hide(parsed.password());
        return require(word, url, parsed != null,
            "a URL; write, for example, 'https://plex.example.com/identity'");
    }

    InetSocketAddress address(String word, String text) {
        Matcher parts = Pattern.compile("(.+):(\\d{1,5})").matcher(text);
        int port = parts.matches() ? Integer.parseInt(parts.group(2)) : 99_999;
        require(word, text, port <= 65_535, "a host and a port, as in 'localhost:32400'");
        return port > 65_535 ? null : InetSocketAddress.createUnresolved(parts.group(1), port);
    }

    Duration positive(String word, Duration time) {
        return require(word, time, time.compareTo(Duration.ZERO) > 0 && time.toDays() <= 3650,
            "a duration above zero, for example 10.seconds");
    }

    int atLeastOne(String word, int number) {
        return require(word, number, number >= 1 && number <= 1000,
            "a whole number from 1 to 1000");
    }

    /** The secrets of a text that are missing, in words; null: none. */
    String reportMissing(String text, String effect) {
        String missing = Secrets.missingIn(text);
        if (missing != null) warn(missing + ", so " + effect + "; " + secrets.whereToPut());
        return missing;
    }

    /** The rest of the rules works all the same. */
    private void warn(String text) {
        warnings.add(file.getFileName() + ":" + lineIn(new Throwable()) + ": " + text);
    }

    /** In the line of the rules that runs now. */
    void mistake(String text) { mistakes.add(lineIn(new Throwable()), 0, text); }

    private static int lineIn(Throwable thrown) {
        for (StackTraceElement frame : thrown.getStackTrace())
            if ((SCRIPT + ".groovy").equals(frame.getFileName())) return frame.getLineNumber();
        return 0;
    }

    static String lineOf(Throwable thrown) {
        int line = lineIn(thrown);
        return line > 0 ? " (line " + line + " of the rules)" : "";
    }
}

/** All mistakes of a rules file, sorted by place, each with its line. */
final class Mistakes {
    private record Mistake(int line, int column, String text) { }

    private final String fileName;
    private final List<String> lines;
    private final Set<Mistake> found = new TreeSet<>(Comparator.comparingInt(Mistake::line)
        .thenComparingInt(Mistake::column)
        .thenComparing(mistake -> mistake.column > 0 ? "" : mistake.text));

    Mistakes(String fileName, String text) {
        this.fileName = fileName;
        this.lines = text.lines().toList();
    }

    /** Column 0: the whole line. Of several mistakes in one column the first is the cause. */
    void add(int line, int column, String text) { found.add(new Mistake(line, column, text)); }

    boolean isEmpty() { return found.isEmpty(); }
    boolean isOnLine(int line) { return found.stream().anyMatch(mistake -> mistake.line == line); }

    /** Whether there is a mistake in a part of the node that is on its first line. */
    boolean isInside(ASTNode node) {
        return found.stream().anyMatch(mistake -> mistake.line == node.getLineNumber()
            && mistake.column > node.getColumnNumber() && (mistake.line < node.getLastLineNumber()
                || mistake.column < node.getLastColumnNumber()));
    }

    /** The text of a line, counted from 1; empty if there is no such line. */
    String line(int line) { return line < 1 || line > lines.size() ? "" : lines.get(line - 1); }

    /** The first line of the block that lacks its }, by the indentation; 0: unknown. */
    int unclosedBlock() {
        Deque<Integer> open = new ArrayDeque<>();
        for (int number = 1; number <= lines.size(); number++) {
            String line = line(number).replaceFirst("\\s*//.*", "");
            int begin = line.matches("\\s*}.*") && !open.isEmpty() ? open.pop() : 0;
            int indentation = line(begin).indexOf(line(begin).strip());
            if (begin > 0 && indentation > line.indexOf("}")) return begin;
            if (line.endsWith("{")) open.push(number);
        }
        return open.isEmpty() ? 0 : open.peek();
    }

    /** The text of a block on one line, without its braces and comments. */
    String inWords(ASTNode block) {
        String text = from(block.getLineNumber(), block.getColumnNumber());
        int rest = from(block.getLastLineNumber(), block.getLastColumnNumber()).length();
        String inner = text.substring(1, text.length() - rest - 1);
        String line = inner.replaceAll("(?m)(^|\\s)//.*", "").lines().map(String::strip)
            .filter(part -> !part.isEmpty()).collect(Collectors.joining("; "));
        return Text.cut(line.replace("{; ", "{ ").replace("; }", " }"), 160);
    }

    /** The text from a place to the end of the file; empty if there is no such place. */
    String from(int line, int column) {
        if (line < 1 || line > lines.size() || column < 1) return "";
        String first = line(line);
        return first.substring(Math.min(column - 1, first.length())) + "\n"
            + String.join("\n", lines.subList(line, lines.size()));
    }

    void throwIfAny() {
        if (!isEmpty()) throw ExitException.mistakes(found.stream().map(this::show).toList());
    }

    private String show(Mistake mistake) {
        int line = mistake.line, column = mistake.column;
        String place = (line > 0 ? ":" + line : "") + (column > 0 ? ":" + column : "");
        String text = fileName + place + ": " + mistake.text;
        if (line(line).isEmpty()) return text;
        text += "\n    " + line(line).replaceAll("[" + Text.CONTROLS + "]", " ");
        return column < 1 ? text : text + "\n    " + " ".repeat(column - 1) + "^";
    }
}

/** The compiled classes of the rules, and the text that they come from. */
record CompiledRules(Path folder) {
    private static final String LAST_GOOD = "last-good.groovy";

    /** The class of the script, or null if it must be compiled (again). */
    Class<?> load(String text) {
        Path classes = folder.resolve(key(text));
        try (Stream<Path> files = Files.list(classes)) {
            ClassLoader loader = new URLClassLoader(new URL[] {classes.toUri().toURL()},
                CompiledRules.class.getClassLoader());
            // All at once: another command may replace the folder while this pass still runs.
            for (Path file : files.filter(path -> path.toString().endsWith(".class")).toList())
                loader.loadClass(file.getFileName().toString().replace(".class", ""));
            return loader.loadClass(RulesLoader.SCRIPT);
        } catch (IOException | ClassNotFoundException | LinkageError damaged) {
            return null;
        }
    }

    /** A class file depends on the text, on this build of watchdog and on this build of Java. */
    private static String key(String text) {
        var source = watchdog.class.getProtectionDomain().getCodeSource().getLocation();
        return Text.hash(text + watchdog.VERSION + source
            + new File(source.getPath()).lastModified() + Runtime.version());
    }

    /** Where to compile to; null if nothing can be written, which is slower but not wrong. */
    Path newFolder() {
        return SecureFiles.orElse(() ->
            Files.createTempDirectory(SecureFiles.folder(folder), "new-"), e -> null);
    }

    /** Replaces what was compiled before, but not what another command may be compiling now. */
    void keep(String text, Path classes) {
        if (classes == null) return;
        try {
            SecureFiles.write(folder.resolve(LAST_GOOD), text);
            for (File file : classes.toFile().listFiles())
                Files.setPosixFilePermissions(file.toPath(), SecureFiles.PRIVATE.value());
            for (File old : folder.toFile().listFiles(File::isDirectory)) {
                boolean unused = !old.getName().startsWith("new-")
                    || old.lastModified() < System.currentTimeMillis() - 600_000;
                if (unused) delete(old.toPath());
            }
            Files.move(classes, folder.resolve(key(text)), StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            return; // the next pass compiles again
        }
    }

    /** The text that was compiled last, for when an edit has mistakes; null if there is none. */
    String lastGood() {
        return SecureFiles.orElse(() -> Files.readString(folder.resolve(LAST_GOOD)), none -> null);
    }

    static void delete(Path tree) {
        if (tree == null) return;
        try (Stream<Path> files = Files.walk(tree)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        } catch (IOException | UncheckedIOException e) {
            return; // tried again after the next edit
        }
    }
}

/** Values that must never be printed: from the environment, or else from the secrets file. */
final class Secrets {
    private static final int MIN_LENGTH = 3, MAX_CUT = 600;
    /** As .env files have it: a comment, after a space, and quotes around the value. */
    private static final Pattern LINE = Pattern.compile("\\s*(?:export\\s+)?(\\w+)\\s*=\\s*"
        + "(['\"]?)(.*?)\\2\\s*(?:\\s#.*)?");
    final Path file;
    private final Map<String, String> values = new HashMap<>(); // the environment before the file
    /** The environment without the secrets that the rules have read from it. */
    final Map<String, String> forCommands;
    private final Map<String, Pattern> hidden = new ConcurrentSkipListMap<>( // longest first
        Comparator.comparing(String::length).reversed().thenComparing(Comparator.naturalOrder()));
    private String problem = "";

    Secrets(Map<String, String> env, Path rules) {
        forCommands = new ConcurrentHashMap<>(env);
        String name = rules.getFileName().toString().replaceFirst("\\.groovy$", "");
        this.file = rules.resolveSibling(name + ".secrets");
        if (Files.exists(file)) readFile();
        env.forEach((variable, value) ->
            values.merge(variable, value, (inFile, own) -> own.isEmpty() ? inFile : own));
    }

    /** The value, or a marker for a missing one, so that the rest of the rules still works. */
    String get(String name) {
        String value = values.getOrDefault(name, "");
        forCommands.remove(name);
        if (value.strip().length() < MIN_LENGTH)
            return "\uE000" + name.replaceAll("\\W", "_") + "\uE001";
        hide(value);
        return value;
    }

    String whereToPut() {
        return problem + "put NAME=value (" + MIN_LENGTH + " characters or more) into " + file
            + " (chmod 600) or into the environment";
    }

    private void readFile() {
        try {
            Path trusted = SecureFiles.trusted(file);
            String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(trusted));
            if (mode.endsWith("------"))
                readLines(SecureFiles.read(trusted, 1 << 20).lines().toList());
            else problem = "other users can read " + file + "; fix it with: chmod 600 '" + file
                + "'; ";
        } catch (IOException | UnsupportedOperationException e) {
            problem = "cannot use " + file + ": " + Text.thrown(e) + "; ";
        }
    }

    private void readLines(List<String> lines) {
        for (String line : lines) {
            Matcher entry = LINE.matcher(line);
            if (entry.matches()) values.put(entry.group(1), entry.group(3));
            else if (!line.matches("\\s*(#.*)?")) problem = "line " + (lines.indexOf(line) + 1)
                + " of " + file + " is not NAME=value; ";
        }
    }

    void hide(String value) {
        String text = value.strip().replaceAll("[" + Text.CONTROLS + "\\s]+", " ");
        if (text.length() < MIN_LENGTH) return;
        List<String> forms = text.codePoints().mapToObj(Secrets::form).toList();
        hidden.put(value, Pattern.compile(String.join("", forms) + cutForms(forms)));
    }

    /** A character as it is, or as a URL, JSON or HTML writes it; white space may be squeezed. */
    private static String form(int c) {
        String text = Character.toString(c);
        if (c == ' ') return "(?:[" + Text.CONTROLS + "\\s+?]|%(?:25)*(?:0[9ADad]|20)|\\\\+[nrt])+";
        if (text.matches("\\w")) return text;
        int bytes = text.getBytes(StandardCharsets.UTF_8).length;
        return "(?:\\\\*" + Pattern.quote(text) + "|(?:%(?:25)*\\p{XDigit}{2}){" + bytes
            + "}|(?:\\\\+u\\p{XDigit}{4}){" + text.length() + "}|&#?\\w+;)";
    }

    /** Of a secret that a cut (…) has shortened: its front or its end, 4 characters or more. */
    private static String cutForms(List<String> forms) {
        int last = Math.min(forms.size(), MAX_CUT) - 1, first = Math.max(0, forms.size() - MAX_CUT);
        String head = "", tail = "";
        for (int i = last; i > 3; i--) head = "(?:" + forms.get(i) + head + ")?";
        for (int i = first; i < forms.size() - 4; i++) tail = "(?:" + tail + forms.get(i) + ")?";
        return forms.size() < 5 ? "" : "|" + String.join("", forms.subList(0, 4)) + head
            + "(?:[%\\\\&][\\\\#\\w]{0,7})?(?=…)|(?<=…)[%\\w;]{0,8}" + tail
            + String.join("", forms.subList(forms.size() - 4, forms.size()));
    }

    /** Which secrets of a text are missing, in words; null: none. */
    static String missingIn(String text) {
        String missing = Pattern.compile("\uE000(\\w*)\uE001").matcher(text).results()
            .map(found -> "the secret " + found.group(1) + " is missing").distinct()
            .collect(Collectors.joining(" and "));
        return missing.isEmpty() ? null : missing;
    }

    /** What leaves the program passes here: without control characters, and without secrets. */
    String mask(String text) {
        String masked = text.replaceAll("[" + Text.CONTROLS + "&&[^\n\u001b]]", " ");
        for (Pattern secret : hidden.values()) masked = secret.matcher(masked).replaceAll("***");
        return masked;
    }
}

/** A check that needs a value that `secret` did not find. */
record UnusableProbe(String inWords) implements Probe {
    public Response check(Checker checker, Exchange exchange) {
        throw new IllegalStateException(inWords);
    }
}

/** Command lines as lists of words. */
final class ShellWords {
    /** Splits as a shell would, but expands nothing. */
    private static List<String> split(String command) {
        List<String> words = new ArrayList<>();
        StringBuilder word = null;
        char quote = 0;
        for (int i = 0; i < command.length(); i++) {
            char c = command.charAt(i);
            if (quote == 0 && Character.isWhitespace(c)) {
                if (word != null) words.add(word.toString());
                word = null;
                continue;
            }
            if (word == null) word = new StringBuilder();
            if (quote == 0 && (c == '\'' || c == '"')) quote = c;
            else if (c == quote) quote = 0;
            else if (c == '\\' && quote != '\'' && i + 1 < command.length())
                word.append(command.charAt(++i));
            else word.append(c);
        }
        if (quote != 0) throw new IllegalArgumentException("the command \""
            + Text.plain(command, 80) + "\" has a quote that is not closed");
        if (word != null) words.add(word.toString());
        return words;
    }

    /** The words of a text or of a list; they may be numbers, or texts with a $value. */
    static List<String> of(Object command) {
        List<String> words = command instanceof List<?> list
            ? list.stream().map(String::valueOf).toList() : split(Objects.toString(command, ""));
        if (words.isEmpty() || words.get(0).isBlank()) throw new IllegalArgumentException(
            "a command is empty; write a program, for example 'cloudflared tunnel run'");
        return words;
    }
}

// === 12. Compiling the rules ===================================================================
// Loaded only after an edit. DslTransformer adds what Groovy's syntax does not have; RulesChecker
// says mistakes in the words of the rules, from the syntax tree and its types.

/** The blocks of a rules file, and the words that can be used in each of them. */
enum Block {
    watch("watch { }", Language.WatchSpec.class), healthy("healthy { }", Language.Conditions.class),
    when("when: { }", Language.Conditions.class),
    restart("restart { }", Language.RemedySpec.class),
    file("the file", Language.RulesScript.class), unknown("", Void.class); // of a wrong call

    /** A value of each type, as it is written in the rules; $ is the name of the parameter. */
    private static final Map<String, String> EXAMPLES = Map.of("String", "'$'", "String[]",
        "'…', '…'", "int", "3", "Integer", "3", "Duration", "10.seconds", "Closure", "{ … }",
        "List", "[…]", "Hook", "pushover(…)", "Object", "'$'", "Expectation", "{ … }");
    final String title;
    private final Class<?> spec;
    private final Map<String, List<Method>> words;
    final Set<String> names = new TreeSet<>(); // of words, and of values such as `none`

    /** Besides its own words a block has those of the file that have a value. */
    Block(String title, Class<?> spec) {
        this.title = title;
        this.spec = spec;
        words = Stream.of(spec, Language.SharedWords.class)
            .flatMap(type -> Stream.of(type.getMethods())).distinct()
            .filter(method -> method.getDeclaringClass().getEnclosingClass() == Language.class)
            .filter(method -> method.getDeclaringClass().isAssignableFrom(spec)
                || method.getReturnType() != void.class)
            .sorted(Comparator.comparing(Method::toString))
            .collect(Collectors.groupingBy(method -> Language.wordOf(method.getName())));
        names.addAll(words.keySet());
        for (Field value : spec.getFields()) names.add(value.getName());
    }

    boolean hasConditions() { return this == healthy || this == when; }

    boolean has(String word) { return words.containsKey(word); }

    Class<?> type(String word) { return words.get(word).get(0).getReturnType(); }

    /** Whether a line of only this word would do nothing. */
    boolean losesValue(String word) {
        return words.get(word).stream().allMatch(method -> method.getReturnType() != void.class
            && (!hasConditions() || method.getDeclaringClass() != spec));
    }

    /** The options of a word: all its methods have the same. */
    List<java.lang.reflect.Parameter> options(String word) {
        return Arrays.stream(words.get(word).get(0).getParameters())
            .filter(parameter -> parameter.isAnnotationPresent(Language.Named.class)).toList();
    }

    /** What is wrong with a word that cannot be used here, or not in this way. */
    String mistake(String word) {
        if (has(word)) return "'" + word + "' is not used like this" + usage(word);
        for (Block other : values())
            if (other.has(word))
                return "'" + word + "' belongs in " + other.title + ", not in " + title;
        String hint = RulesCompiler.hint(word, names);
        return "no such word '" + word + "' in " + title + (hint.isEmpty() && this == restart
            ? "; its steps are stop, start, run, sh, pause and call" : hint);
    }

    /** How a word is written, and the options that may be left out. */
    String usage(String word) {
        String options = options(word).stream().filter(option -> !isRequired(option))
            .map(Block::usage).collect(Collectors.joining(", "));
        return "; write: " + words.get(word).stream().map(form -> usage(word, form)).distinct()
            .collect(Collectors.joining(", or "))
            + (options.isEmpty() ? "" : "; options: " + options);
    }

    static boolean isRequired(java.lang.reflect.Parameter parameter) {
        var option = parameter.getAnnotation(Language.Named.class);
        return option == null || option.required();
    }

    private static String usage(java.lang.reflect.Parameter parameter) {
        String type = parameter.getType().getSimpleName(), name = parameter.getName();
        String value = EXAMPLES.getOrDefault(type, "$").replace("$", name);
        return parameter.isAnnotationPresent(Language.Named.class) ? name + ": " + value : value;
    }

    private String usage(String word, Method method) {
        List<String> values = Stream.of(method.getParameters()).filter(Block::isRequired)
            .map(Block::usage).collect(Collectors.toList());
        String block = values.remove("{ … }") ? " { … }" : "", list = String.join(", ", values);
        if (hasConditions()) block = " == …";
        boolean line = method.getReturnType() == void.class && !(block + list).contains("{");
        return line ? word + " " + list : word + (list.isEmpty() ? "" : "(" + list + ")") + block;
    }
}

/** Text of the rules -> the class of the script, or all mistakes. */
final class RulesCompiler {
    /** What people who know another tool write, and the words of the rules for it. */
    private static final String OTHER_WORDS = """
        exec shell bash system command -> run '…', or sh '…' for a shell
        kill killall pkill             -> stop '…'
        wait sleep delay               -> pause 3.seconds
        println print log              -> call { println '…' }
        retries retry tries            -> attempts 3, every: 2.seconds
        every interval schedule cron   -> in a shell: watchdog schedule --install --every 5m
        get http https                 -> url 'https://…'
        sec secs min mins hr hrs       -> 10.seconds, 5.minutes or 1.hour
        env getenv environment         -> secret('NAME')
        email mail smtp                -> notify command('…'); the reference shows how
        statusCode code                -> status == 200
        """;
    /** What is wrong in a line that is not Groovy; $1 is the first group. */
    private static final String SLIPS = """
        ^[^'"/]*?\\b(https?://\\S*) -> a text needs quotes: '$1'
        ^(?:[^'"/]|'.*?'|".*?")*?\\s(and|or)\\s -> write && for and, || for or
        "[^"]*?(?<!\\\\)(\\$)(?![A-Za-z_{]) -> for a $ in a text write \\$, or use single quotes
        ^(?!\\s*\\w+ +\\w+ *=).*?[\\w)]\\s*(=)(?!=) -> a comparison is written with ==
        ^(?:[^'"/]|'.*?'|".*?")*?(#) -> a comment begins with //
        ([\u2018\u2019\u201C\u201D]) -> write straight quotes, ' or "
        """;

    private static Stream<String[]> rows(String table) {
        return table.lines().map(line -> line.split(" +-> "));
    }

    /** What to write instead of a word that there is not, or an empty text. */
    static String hint(String word, Collection<String> known) {
        return rows(OTHER_WORDS).filter(row -> List.of(row[0].split(" ")).contains(word))
            .map(row -> "; write: " + row[1]).findFirst().orElse(Text.didYouMean(word, known));
    }

    /** {@code folder}: where the classes are kept, or null. */
    static Class<?> compile(String text, Path folder, Mistakes mistakes) {
        CompilerConfiguration configuration = new CompilerConfiguration();
        configuration.setTolerance(1000);
        configuration.getOptimizationOptions().put(CompilerConfiguration.INVOKEDYNAMIC, false);
        configuration.addCompilationCustomizers(transformer(mistakes),
            new ASTTransformationCustomizer(Map.of("extensions", RulesChecker.class.getName()),
                CompileStatic.class),
            new ASTTransformationCustomizer(ThreadInterrupt.class)); // ends an endless loop
        if (folder != null) configuration.setTargetDirectory(folder.toFile());
        Class<?> script = null;
        try {
            script = new GroovyClassLoader(watchdog.class.getClassLoader(), configuration)
                .parseClass(text, RulesLoader.SCRIPT + ".groovy");
        } catch (RuntimeException | StackOverflowError | OutOfMemoryError e) {
            if (e instanceof MultipleCompilationErrorsException errors)
                errors.getErrorCollector().getErrors().forEach(error -> add(error, mistakes));
            if (mistakes.isEmpty()) mistakes.add(0, 0, "Groovy cannot compile so much; write"
                + " similar watches with a loop or a function (" + Text.thrown(e) + ")");
        }
        mistakes.throwIfAny();
        return script;
    }

    private static CompilationCustomizer transformer(Mistakes mistakes) {
        return new CompilationCustomizer(CompilePhase.CONVERSION) {
            @Override
            public void call(SourceUnit source, GeneratorContext context, ClassNode type) {
                source.getAST().putNodeMetaData(Mistakes.class, mistakes);
                if (type.isScript()) {
                    type.setSuperClass(ClassHelper.make(Language.RulesScript.class));
                    type.getDeclaredConstructors().clear();
                }
                new DslTransformer(source, type, mistakes).visitClass(type);
            }
        };
    }

    /** An error of Groovy's; on a line with a mistake of ours it is only a consequence. */
    private static void add(Message message, Mistakes mistakes) {
        if (!(message instanceof SyntaxErrorMessage found)) return;
        SyntaxException error = found.getCause();
        int line = error.getStartLine(), column = error.getStartColumn();
        if (mistakes.isOnLine(line)) return;
        String text = uncapitalize(Text.plain(error.getOriginalMessage(), 200)
            .replace("[Static type checking] - ", ""));
        if (error.getMessage().startsWith("[Static")) mistakes.add(line, column, text);
        else addSyntaxError(line, column, text, mistakes);
    }

    /** Groovy finds an unquoted URL only in the next line: // begins a comment. */
    private static void addSyntaxError(int line, int column, String text, Mistakes mistakes) {
        for (int near : List.of(line, line - 1)) {
            for (String[] slip : rows(SLIPS).toList()) {
                Matcher found = Pattern.compile(slip[0]).matcher(mistakes.line(near));
                if (!found.find()) continue;
                mistakes.add(near, found.start(1) + 1, slip[1].replace("$1", found.group(1)));
                return;
            }
        }
        String rest = mistakes.from(line, column);
        boolean braces = rest.matches("[\\s})]*");
        int open = braces ? mistakes.unclosedBlock() : 0;
        if (open > 0) {
            line = open;
            column = mistakes.line(open).lastIndexOf('{') + 1;
            text = "this { has no }";
        } else if (braces)
            text = "braces do not match: one before this is not closed, or this is one too many";
        else if (rest.matches("(?s)['\"].*")) text = "this quote is not closed";
        else if (text.startsWith("unexpected input"))
            text = "'" + rest.replaceFirst("(?s)(\\w+|.).*", "$1") + "' is not expected here";
        else text = "this is not Groovy: " + text;
        mistakes.add(line, column, text);
    }

    /** Says mistakes in the words of the rules. Groovy calls its public constructor. */
    public static final class RulesChecker extends AbstractTypeCheckingExtension {
        public RulesChecker(StaticTypeCheckingVisitor visitor) { super(visitor); }

        /** Not if a part of the node already has a mistake, or if the node is not in the text. */
        private void mistake(ASTNode node, String text) {
            boolean inText = node.getLineNumber() > 0;
            if (inText && block() != Block.unknown && !mistakes().isInside(node))
                mistakes().add(node.getLineNumber(), node.getColumnNumber(), text);
        }

        private Mistakes mistakes() {
            return context.getSource().getAST().getNodeMetaData(Mistakes.class);
        }

        /** The innermost of watchdog's blocks around the code that is checked now. */
        private Block block() {
            return context.getEnclosingClosureStack().stream()
                .map(closure -> closure.getClosureExpression().<Block>getNodeMetaData(Block.class))
                .filter(Objects::nonNull).findFirst().orElse(Block.file);
        }

        @Override public List<MethodNode> handleMissingMethod(ClassNode receiver, String name,
                ArgumentListExpression arguments, ClassNode[] types, MethodCall call) {
            boolean isWord = call instanceof MethodCallExpression m && m.isImplicitThis()
                && context.getEnclosingClassNode().getDeclaredMethods(name).isEmpty();
            boolean untyped = Stream.concat(Stream.of(receiver), Stream.of(types))
                .anyMatch(ClassHelper::isObjectType);
            mistake((ASTNode) call, (isWord ? block().mistake(Language.wordOf(name))
                : noSuchMethod(receiver, name, types)) + (untyped ? " (give the function types,"
                + " so that it can be checked: String name(String x) { … })" : ""));
            DslTransformer.nameBlocks(arguments.getExpressions(), Block.unknown);
            return List.of(newMethod(name, ClassHelper.dynamicType()));
        }

        @Override public List<MethodNode> handleAmbiguousMethods(List<MethodNode> methods,
                                                                 Expression call) {
            mistake(call, block().mistake(Language.wordOf(methods.get(0).getName())));
            return methods.subList(0, 1);
        }

        private static String noSuchMethod(ClassNode type, String name, ClassNode[] types) {
            Set<String> known = type.getAllDeclaredMethods().stream().map(MethodNode::getName)
                .collect(Collectors.toSet());
            return type.equals(ClassHelper.VOID_TYPE) ? "'" + name + "' needs a comma before it"
                + " and a colon behind it, or must begin a new line"
                : known.contains(name) ? "'" + name + "' does not take "
                + Text.list(Stream.of(types).map(RulesChecker::typeName).toList())
                : name.equals("call") ? "a variable has the name of this word; rename the variable"
                : typeName(type) + " has no '" + name + "'" + Text.didYouMean(name, known);
        }

        @Override public boolean handleUnresolvedVariableExpression(VariableExpression variable) {
            String word = variable.getName(), problem = block().mistake(word);
            int line = variable.getLineNumber(), column = variable.getColumnNumber();
            if (mistakes().from(line, column - 1).startsWith("$"))
                problem = "there is no value '" + word + "'; for a $ in a text write \\$" + word
                    + ", or put the text in single quotes";
            else if (block().hasConditions() && !ClassHelper.STRING_TYPE.getMethods(word).isEmpty())
                problem = "write a dot and parentheses: body." + word + "('…')";
            else if (problem.startsWith("no such word")
                    && RulesCompiler.hint(word, block().names).isEmpty())
                problem = problem.split(";")[0] + "; if it is a text, put it in quotes: '" + word
                    + "'; if it is a variable, define it further up";
            mistake(variable, problem);
            makeDynamic(variable);
            return true;
        }

        @Override public boolean handleUnresolvedProperty(PropertyExpression property) {
            String name = property.getPropertyAsString();
            String type = typeName(getType(property.getObjectExpression()));
            mistake(property, type + " has no '" + name + "'" + (DslTransformer.nanos(name) == null
                ? RulesCompiler.hint(name, DslTransformer.UNITS.keySet())
                : "; for a variable write Duration.ofSeconds(…)"));
            makeDynamic(property);
            return true;
        }

        @Override public void onMethodSelection(Expression expression, MethodNode target) {
            String name = target.getName(), owner = target.getDeclaringClass().getName();
            if ((owner + "." + name).matches("java.lang.(System|Runtime).(exit|halt)"))
                mistake(expression, "'" + name + "' would end watchdog itself");
            // Groovy also finds `url 'x'` of the watch around a block.
            if (block() != Block.watch && owner.equals(Language.WatchSpec.class.getName()))
                mistake(expression, block().mistake(name));
            if (!(expression instanceof BinaryExpression e) || !name.equals("compareTo")) return;
            ClassNode left = getType(e.getLeftExpression());
            ClassNode right = getType(e.getRightExpression());
            // `time < 3` calls compareTo with a value of another type.
            if (!StaticTypeCheckingSupport.checkCompatibleAssignmentTypes(left, right))
                mistake(e, typeName(left) + " cannot be compared with " + typeName(right)
                    + (typeName(left).equals("Duration") ? "; write, for example, 2.seconds" : ""));
        }

        private static String typeName(ClassNode type) {
            return type.getNameWithoutPackage().replaceFirst(".*\\$", "");
        }
    }
}

/**
 * Adds what Groovy's syntax does not have, before its type checker runs: a line of healthy { }
 * becomes an assert, 3.seconds a Duration, an option by name an argument by place. Notes which
 * block is which, and reports what would be valid Groovy but mean something else.
 */
final class DslTransformer extends ClassCodeExpressionTransformer {
    static final Map<String, Long> UNITS = Map.of("milliseconds", 1_000_000L,
        "seconds", 1_000_000_000L, "minutes", 60_000_000_000L, "hours", 3_600_000_000_000L,
        "days", 86_400_000_000_000L);
    private static final String NO_STEP =
        " is not a step; write one a line, run '…' for a command or call { … } for Groovy";
    private final SourceUnit source;
    private final ClassNode type;
    private final Mistakes mistakes;
    private Block block = Block.file;
    private Expression line; // the last whole line
    private final Set<String> variables = new HashSet<>(); // they may be called, too
    private boolean inFunction;

    DslTransformer(SourceUnit source, ClassNode type, Mistakes mistakes) {
        this.source = source;
        this.type = type;
        this.mistakes = mistakes;
    }

    static Long nanos(String unit) { return UNITS.get(unit.endsWith("s") ? unit : unit + "s"); }

    @Override protected SourceUnit getSourceUnit() { return source; }

    private void mistake(ASTNode node, String text) {
        if (block != Block.unknown)
            mistakes.add(node.getLineNumber(), node.getColumnNumber(), text);
    }

    @Override public void visitMethod(MethodNode method) {
        inFunction = !method.getName().equals("run");
        super.visitMethod(method);
    }

    @Override public void visitExpressionStatement(ExpressionStatement statement) {
        line = statement.getExpression();
        List<String> labels = statement.getStatementLabels(); // of `url: 'x'`, which does nothing
        if (labels != null) mistake(statement, block.mistake(labels.get(0)));
        else if (block == Block.restart && word(line) == null && !loopsOrCounts(line))
            mistake(line, "this line" + NO_STEP);
        super.visitExpressionStatement(statement);
    }

    private static boolean loopsOrCounts(Expression e) {
        return e instanceof PostfixExpression || e instanceof PrefixExpression
            || isAssignment(e) || e instanceof MethodCallExpression call
            && call.getArguments() instanceof TupleExpression arguments
            && arguments.getExpressions().stream().anyMatch(ClosureExpression.class::isInstance);
    }

    /** The word that an expression calls, or null. */
    private static String word(Expression e) {
        return e instanceof MethodCallExpression call && call.isImplicitThis()
            && call.getArguments() instanceof TupleExpression ? call.getMethodAsString() : null;
    }

    @Override public Expression transform(Expression e) {
        if (e instanceof PropertyExpression property && duration(property) != null)
            return duration(property);
        if (e instanceof ClosureExpression closure) return visitBlock(closure);
        if (isAssignment(e)) {
            String name = ((BinaryExpression) e).getLeftExpression().getText();
            if (e instanceof DeclarationExpression) variables.add(name);
            else if (block.has(name) && !variables.contains(name)) mistake(e, block.mistake(name));
        }
        if (word(e) != null) transformCall((MethodCallExpression) e, word(e));
        return super.transform(e);
    }

    private static boolean isAssignment(Expression e) {
        return e instanceof BinaryExpression b && b.getOperation().getText().matches("[-+*/]?=");
    }

    private Expression duration(PropertyExpression e) {
        Long nanos = nanos(String.valueOf(e.getPropertyAsString()));
        if (nanos == null || !(e.getObjectExpression() instanceof ConstantExpression c)
            || !(c.getValue() instanceof Number)) return null;
        long value = new BigDecimal(c.getText()).multiply(BigDecimal.valueOf(nanos)).longValue();
        Expression duration = GeneralUtils.callX(ClassHelper.make(Duration.class), "ofNanos",
            GeneralUtils.constX(value, true));
        duration.setSourcePosition(e);
        return duration;
    }

    /** A block of conditions becomes an Expectation. */
    private Expression visitBlock(ClosureExpression closure) {
        Block outer = block, own = closure.getNodeMetaData(Block.class);
        if (own != null) block = own;
        boolean judges = own != null && own.hasConditions();
        if (judges && noCondition((BlockStatement) closure.getCode()))
            mistake(closure, "there is no condition in " + own.title
                + "; write, for example, status == 200");
        if (judges) conditions(closure.getCode());
        closure.getCode().visit(this);
        block = outer;
        return !judges ? closure : GeneralUtils.ctorX(
            ClassHelper.make(Language.BlockExpectation.class),
            GeneralUtils.args(closure, GeneralUtils.constX(mistakes.inWords(closure))));
    }

    private static boolean noCondition(BlockStatement code) {
        return code.getStatements().stream().allMatch(line -> line instanceof ExpressionStatement e
            && e.getExpression() instanceof DeclarationExpression);
    }

    /** Every line of a block, also under if and for, with braces or without. */
    private Statement conditions(Statement code) {
        if (code instanceof SwitchStatement || code instanceof TryCatchStatement
                || code instanceof ReturnStatement end && !end.isReturningNullOrVoid())
            mistake(code, "write each condition on a separate line; use && and ||, or if");
        if (code instanceof BlockStatement lines)
            lines.getStatements().replaceAll(this::conditions);
        if (code instanceof LoopingStatement loop)
            loop.setLoopBlock(conditions(loop.getLoopBlock()));
        if (code instanceof IfStatement choice) {
            choice.setIfBlock(conditions(choice.getIfBlock()));
            choice.setElseBlock(conditions(choice.getElseBlock()));
        }
        return code instanceof ExpressionStatement line ? condition(line) : code;
    }

    private Statement condition(ExpressionStatement line) {
        Expression e = line.getExpression();
        if (isAssignment(e) || line.getStatementLabels() != null) return line;
        checkCondition(e);
        AssertStatement condition = new AssertStatement(GeneralUtils.boolX(e));
        condition.setSourcePosition(line);
        return condition;
    }

    /** A condition that is always true, or never. */
    private void checkCondition(Expression e) {
        boolean always = e instanceof ConstantExpression c && !(c.getValue() instanceof Boolean)
            || e instanceof VariableExpression && block.names.contains(e.getText())
            || e instanceof MethodCallExpression call && "each".equals(call.getMethodAsString())
            || word(e) != null && block.has(word(e)) && block.losesValue(word(e));
        if (always)
            mistake(e, "this is always true; write a comparison, for example status == 200");
        if (!(e instanceof BinaryExpression b)) return;
        Expression left = b.getLeftExpression(), right = b.getRightExpression();
        if (b.getOperation().getText().matches("&&|[|]{2}"))
            for (Expression part : List.of(left, right))
                if (!part.getText().equals("body")) checkCondition(part);
        Class<?> type = block.has(left.getText()) ? block.type(left.getText()) : null;
        Object value = right instanceof ConstantExpression c ? c.getValue() : null;
        if (value instanceof String && (type == int.class || type == Model.Failure.class))
            mistake(right, "write it without quotes: " + value);
        if (value instanceof Number && type == String.class)
            mistake(right, "write it in quotes: '" + value + "'");
        if (b.getOperation().getText().equals("==") && type == int.class
                && (right instanceof ListExpression || right instanceof RangeExpression))
            mistake(e, "this is never true; write: " + left.getText() + " in …");
        if (type == Model.Failure.class && block == Block.healthy)
            mistake(e, "without a response it is unhealthy anyway; `error` is for"
                + " restart(when: { … })");
    }

    private void transformCall(MethodCallExpression call, String word) {
        List<Expression> arguments =
            new ArrayList<>(((TupleExpression) call.getArguments()).getExpressions());
        if (!block.has(word)) {
            boolean known = variables.contains(word) // a script has a method run()
                || !word.equals("run") && !type.getDeclaredMethods(word).isEmpty();
            if (!known) checkUnknown(call, word, arguments);
            return;
        }
        if (call == line && !inFunction && block.losesValue(word))
            mistake(call, "'" + word + "'" + (block == Block.restart ? NO_STEP
                : " alone does nothing; write it "
                + (word.equals("restart") ? "in watch { }" : "behind notify")));
        if (Set.of("watch", "healthy", "restart").contains(word))
            nameBlocks(arguments, Block.valueOf(word));
        if (Set.of("call", "notify", "webhook").contains(word)) nameBlocks(arguments, Block.file);
        call.setArguments(byPlace(word, arguments, call));
        // `command` is a check as a line of watch { }, and a hook anywhere else.
        boolean probe = word.equals("command") && block == Block.watch && call == line;
        if (Language.RENAMED.contains(word) && !probe)
            call.setMethod(new ConstantExpression(word + Language.SUFFIX));
    }

    private void checkUnknown(MethodCallExpression call, String word, List<Expression> arguments) {
        ASTNode name = call.getMethod();
        // Groovy takes the name in `watch 'plex' { }` for a function.
        if (name.getLastColumnNumber() - name.getColumnNumber() > word.length())
            mistake(call, "write parentheses before a block: watch('" + word + "') { … }");
        else if (block == Block.restart && call == line
                || block != Block.file && word.matches("wait|sleep") || type.isScript()
                && Stream.of(Block.values()).anyMatch(other -> other.has(word)))
            mistake(call, block.mistake(word));
        nameBlocks(arguments, Block.unknown);
    }

    static void nameBlocks(List<Expression> arguments, Block name) {
        for (Expression argument : arguments)
            if (argument instanceof ClosureExpression) argument.putNodeMetaData(Block.class, name);
    }

    /** Options become arguments by place, in the order of the word's declaration. */
    private ArgumentListExpression byPlace(String word, List<Expression> arguments, ASTNode call) {
        Map<String, Expression> given = new HashMap<>();
        var options = block.options(word);
        List<String> known = options.stream().map(java.lang.reflect.Parameter::getName).toList();
        ASTNode place = call;
        if (!arguments.isEmpty() && arguments.get(0) instanceof MapExpression map) {
            place = arguments.remove(0);
            for (MapEntryExpression entry : map.getMapEntryExpressions()) {
                String name = entry.getKeyExpression().getText();
                given.put(name, entry.getValueExpression());
                String hint = RulesCompiler.hint(name, known);
                if (!known.contains(name)) mistake(entry, "no option '" + name + "' here"
                    + (hint.isEmpty() ? block.usage(word) : hint));
                if (name.equals("when")) nameBlocks(List.of(given.get(name)), Block.when);
            }
        }
        for (var option : options) {
            String name = option.getName();
            if (Block.isRequired(option) && !given.containsKey(name))
                mistake(place, "the option '" + name + "' is missing" + block.usage(word));
            arguments.add(given.getOrDefault(name, new ConstantExpression(null)));
        }
        return new ArgumentListExpression(arguments);
    }
}

// === 13. Output ================================================================================
// All that is printed, in people's words or as JSON. Secrets are masked by Printer.

/** What `status` says of one watch; its components are the fields of --json. */
record WatchStatus(String name, String state, Instant since, Instant pausedUntil, String reason,
                   RestartRecord lastRestart, int restartsLeft, int limit, Duration per,
                   Map<String, Double> uptime, Duration watched, Instant nextRestart) {
    String inWords() {
        String text = name + ": " + state;
        if (pausedUntil != null) text += " " + Text.until(pausedUntil);
        else text += since == null ? ", not checked yet" : " since " + Text.at(since);
        if (reason != null) text += ": " + reason;
        if (lastRestart != null) text += "\n    last restart " + Text.at(lastRestart.at()) + ": "
            + lastRestart.inWords();
        if (per != null) text += "\n    restarts left: " + restartsLeft + " of " + limit + " per "
            + Text.time(per);
        if (nextRestart != null) text += "; the next one is possible at " + Text.at(nextRestart);
        return text + "\n    uptime: " + uptimes().entrySet().stream()
            .map(span -> percent(span.getValue()) + " in " + Text.time(span.getKey()))
            .collect(Collectors.joining(", "));
    }

    /** Not "in 30 days" when the service has been watched for six minutes. */
    Map<Duration, Double> uptimes() {
        Map<Duration, Double> shown = new TreeMap<>();
        Duration longest = watched == null ? Duration.ofDays(1) : watched;
        uptime.forEach((time, share) -> shown.put(
            Collections.min(List.of(Text.parseDuration(time), longest)), share));
        return shown;
    }

    static String percent(Double value) {
        return value == null ? "unknown" : (value + " %").replace(".0 %", " %");
    }
}

/** An incident and its messages; {@code healthySince}: null if it is down, or over. */
record LogEntry(boolean down, Instant downSince, Instant healthySince,
                List<Model.Event> messages) {
    Model.Event first() { return messages.get(0); }
    Model.Event last() { return messages.get(messages.size() - 1); }

    String inWords(Instant now) {
        Instant since = first().since();
        boolean flapped = messages.stream()
            .anyMatch(message -> message.kind() == Model.EventKind.flapping);
        String text = Text.at(since) + "  " + first().title() + ": " + first().text();
        for (Model.Event next : messages.subList(1, messages.size())) {
            boolean old = next.kind() == Model.EventKind.reminder && next != last();
            boolean detailed = next.kind() == Model.EventKind.still_down
                || flapped && next.kind() == Model.EventKind.recovered;
            if (!old) text += " At " + Text.at(next.at()) + ", " + Text.time(since, next.at())
                + " later: " + next.title() + (detailed ? ": " + next.text() : ".");
        }
        if (down) text += (flapped ? " Down again since " + Text.at(downSince) + ", for "
            : " Down for ") + Text.time(flapped ? downSince : since, now) + " so far.";
        else if (healthySince != null && !MessageText.ENDS.contains(last().kind()))
            text += " Healthy since " + Text.at(healthySince) + ".";
        return text;
    }
}

/** Prints results on stdout, messages on stderr, and each warning once. */
record Printer(Environment env, watchdog options, Secrets secrets, Set<String> warned) {
    void line(String text) { env.out().println(secrets.mask(text)); }

    /** With --json an object instead of the lines; its fields are only ever added to. */
    void print(Stream<String> lines, Map<String, Object> object) {
        if (!options.json) lines.forEach(this::line);
        else env.out().println(Json.writer(secrets::mask).toJson(object));
    }

    /** A sentence, which is also the message of the object. */
    void say(String text, Object... fields) {
        Map<String, Object> object = Json.fields(fields);
        object.put("message", text);
        print(Stream.of(text), object);
    }

    void problem(String text) { env.err().println(secrets.mask(text)); }
    void warn(String text) {
        if (warned.add(text)) problem("watchdog: " + text);
    }

    /** A step of a restart; a person at a terminal sees each as it happens. */
    void progress(String text) {
        boolean wanted = options.verbose || env.terminal() && !options.quiet;
        if (wanted && !options.json) line(text);
    }

    /** Returns the exit code: the worst of {@code exit} and the verdicts. */
    int results(Collection<WatchResult> results, int exit) {
        int worst = exit, width = 1;
        for (WatchResult result : results) {
            worst = ExitException.worst(worst, result.verdict().exitCode());
            width = Math.max(width, result.watch.name().length());
        }
        String time = options.quiet ? Text.at(env.now()) + "  " : ""; // for a log
        String format = time + "%-" + width + "s  %s %s";
        print(results.stream().filter(result -> !options.quiet || result.isNews())
            .map(result -> String.format(format, result.watch.name(), verdict(result),
                what(result) + (options.verbose ? details(result) : ""))),
            Json.fields("watches", results.stream().map(Printer::fields).toList(), "exit", worst));
        return worst;
    }

    private static Map<String, Object> fields(WatchResult r) {
        Response response = r.check.response();
        return Json.fields("name", r.watch.name(), "verdict", r.verdict().word(), "reason",
            r.verdict().reason(), "status", response.status(), "millis",
            response.time().toMillis(), "did", r.needsRestart() ? Action.nothing
                : r.decision.action(), "healed", r.healed, "phases", response.phases(),
            "error", response.failure(), "certificateExpires", response.certificate() == null ? null
                : response.certificate().getNotAfter().toInstant());
    }

    private String verdict(WatchResult result) {
        String word = String.format("%-12s", result.healed ? "healed" : result.verdict().word());
        boolean color = env.terminal() && env.variables().getOrDefault("NO_COLOR", "").isEmpty();
        String code = result.verdict().exitCode() == 0 ? "\u001b[32m" : "\u001b[31m";
        return color ? code + word + "\u001b[0m" : word;
    }

    private String what(WatchResult result) {
        String reason = result.verdict().reason(), why = result.decision.why();
        String time = Text.time(result.healTime);
        if (result.healed)
            return "in " + time + ": " + result.reasonBefore + "; " + result.actions;
        if (!result.actions.isEmpty())
            return reason + "; " + result.actions + "; still not healthy after " + time;
        if (options.dryRun && result.needsRestart())
            return reason + "; would restart: " + result.remedy().inWords();
        return why.isEmpty() || why.equals(reason) ? reason : reason + "; " + why;
    }

    private static String details(WatchResult result) {
        String text = result.verdict() instanceof Unhealthy unhealthy
            && unhealthy.diagram() != null ? "\n" + unhealthy.diagram() : "";
        Map<String, Double> phases = result.check.response().phases();
        return phases.isEmpty() ? text : text + phases.entrySet().stream()
            .map(phase -> phase.getKey() + " " + Math.round(phase.getValue()) + " ms")
            .collect(Collectors.joining(", ", "\n    ", ""));
    }

    int validated(Path file, Rules rules, List<String> problems) {
        int exit = problems.isEmpty() ? 0 : 2;
        List<String> names = rules.watches().stream().map(Watch::name).toList();
        String good = file.getFileName() + " is good: "
            + Text.count(names.size(), "watch", "watches");
        print(Stream.concat(rules.watches().stream().map(Printer::inWords),
            exit == 0 ? Stream.of(good) : Stream.empty()),
            Json.fields("watches", names, "problems", problems, "exit", exit));
        problems.forEach(this::problem);
        return exit;
    }

    private static String inWords(Watch watch) {
        CheckSettings settings = watch.settings();
        RestartPolicy policy = watch.policy();
        String text = watch.name() + ": " + watch.probe().inWords();
        if (!watch.dependencies().isEmpty()) text += ", needs " + Text.list(watch.dependencies());
        text += "; up to " + Text.count(settings.attempts(), "attempt", "attempts") + " of "
            + Text.time(settings.timeout());
        if (watch.healthy() != null) text += "\n    healthy when " + watch.healthy().inWords();
        for (Model.Remedy remedy : watch.remedies()) text += "\n    restart"
            + (remedy.when() == null ? "" : " when " + remedy.when().inWords())
            + ": " + remedy.inWords();
        if (watch.remedies().isEmpty()) text += "\n    no restart";
        else text += "\n    at most " + policy.limit() + " per " + Text.time(policy.per())
            + ", after " + Text.count(policy.failures(), "unhealthy pass", "unhealthy passes")
            + ", healthy within " + Text.time(policy.within());
        List<String> hooks = watch.hooks().stream().map(Model.Hook::label).toList();
        return text + "\n    " + (hooks.isEmpty() ? "no notifications"
            : "notifies " + Text.list(hooks));
    }

    void status(List<WatchStatus> watches, StateStore store, Path rules) {
        Instant last = store.history().lastPass;
        Duration every = store.interval();
        String pass = (last == null ? "no pass yet"
            : "last pass " + Text.time(last, env.now()) + " ago")
            + (every == null ? "" : ", expected every " + Text.time(every))
            + (store.isLate() ? ": the schedule is not running it" : "");
        List<OutboxEntry> waiting = store.outbox();
        Stream<String> undelivered = waiting.stream().map(entry -> "not delivered yet to "
            + Text.hook(entry.hook()) + " since " + Text.at(entry.event().at()) + ": "
            + entry.event().title());
        print(Stream.of(watches.stream().map(WatchStatus::inWords),
            Stream.of("rules: " + rules, pass), undelivered)
            .flatMap(lines -> lines), Json.fields("watches", watches, "waiting", waiting.size(),
            "lastPass", last, "every", every, "rules", rules));
    }

    void log(List<LogEntry> entries, Instant begin) {
        print(entries.isEmpty() ? Stream.of("nothing was down since " + Text.at(begin))
            : entries.stream().map(entry -> entry.inWords(env.now())),
            Json.fields("incidents", entries));
    }
}

/** What a pass found, as a textfile for Prometheus' node exporter. */
final class Metrics {
    static String text(Collection<WatchResult> results, StateStore store, Instant now) {
        Map<String, Function<WatchResult, Object>> gauges = new LinkedHashMap<>();
        for (String state : List.of("healthy", "unhealthy", "inconclusive", "paused"))
            gauges.put(state + " 1 if it is " + state + ".",
                r -> r.verdict().word().equals(state) ? 1 : 0);
        gauges.put("response_seconds How long the last check took.",
            r -> r.check.response().time().toNanos() / 1e9);
        gauges.put("recent_restarts Restarts in the period of the restart limit.",
            r -> store.of(r.watch).restartsInWindow(r.watch.policy(), now));
        gauges.put("certificate_expiry_timestamp_seconds When the certificate expires.", r -> {
            X509Certificate server = r.check.response().certificate();
            return server == null ? "NaN" : server.getNotAfter().getTime() / 1000;
        });
        gauges.put("last_pass_timestamp_seconds When it ended.", r -> now.getEpochSecond());

        StringBuilder text = new StringBuilder();
        gauges.forEach((help, value) -> {
            String name = "watchdog_" + help.split(" ")[0];
            text.append("# HELP watchdog_" + help + "\n# TYPE " + name + " gauge\n");
            for (WatchResult r : results) text.append(name + "{watch=\"" + r.watch.name()
                .replaceAll("[\\\\\"]", "\\\\$0") + "\"} " + value.apply(r) + "\n");
        });
        return text.toString();
    }
}

/** Values as people read them. Nothing from outside keeps its control characters. */
final class Text {
    /** Control, formatting and bidirectional characters, and the line ends of Unicode. */
    static final String CONTROLS = "\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}";
    static final Instant FOREVER = Instant.parse("9999-01-01T00:00:00Z");

    static String time(Duration time) {
        long millis = time.toMillis(), seconds = time.plusMillis(500).toSeconds();
        long minutes = time.plusSeconds(30).toMinutes(), hours = time.plusMinutes(30).toHours();
        if (millis < 1000) return millis + " ms";
        if (millis < 9_950)
            return String.format(Locale.ROOT, "%.1f s", millis / 1000.0).replace(".0", "");
        if (seconds < 120 && seconds != 60) return seconds + " s";
        if (minutes < 120 && minutes % 60 > 0) return minutes + " min";
        return minutes < 48 * 60 ? units(minutes, 60, " h", " min")
            : units(hours, 24, " days", " h");
    }

    private static String units(long number, int size, String large, String small) {
        return number / size + large + (number % size == 0 ? "" : " " + number % size + small);
    }

    static Instant earlier(Instant a, Instant b) { return a.isBefore(b) ? a : b; }

    /** Never negative: the clock may have been set back. */
    static String time(Instant since, Instant now) {
        return time(Duration.between(earlier(since, now), now));
    }

    static Duration parseDuration(String text) {
        if (!text.matches("[1-9]\\d{0,5}[smhd]")) throw new CommandLine.TypeConversionException(
            "'" + text + "' is not a duration; use 30m, 2h or 1d");
        return Duration.parse((text.endsWith("d") ? "P" : "PT") + text);
    }

    /** In the local time zone, with its offset in the hour that a clock change repeats. */
    static String at(Instant time) {
        ZonedDateTime local = time.atZone(ZoneId.systemDefault());
        var offsets = local.getZone().getRules().getValidOffsets(local.toLocalDateTime());
        String offset = offsets.size() > 1 ? " " + local.getOffset() : "";
        return String.format(Locale.ROOT, "%tF %<tR", local) + offset;
    }
    static String until(Instant time) {
        return "until " + (time.equals(FOREVER) ? "it is resumed" : at(time));
    }

    /** One line without control, formatting or bidirectional characters, cut to a length. */
    static String plain(String text, int maxLength) {
        String line = text == null ? "" : text.replaceAll("[" + CONTROLS + "\\s]+", " ");
        return cut(line.strip(), maxLength);
    }

    static String cut(String text, int maxLength) {
        if (text.codePointCount(0, text.length()) <= maxLength) return text;
        return text.substring(0, text.offsetByCodePoints(0, maxLength - 1)) + "…";
    }

    static String value(Object value) {
        if (value instanceof Duration time) return time(time);
        String text = plain(String.valueOf(value), 60);
        return value instanceof String ? "'" + text + "'" : text;
    }

    static String address(InetSocketAddress to) { return to.getHostString() + ":" + to.getPort(); }

    static String hash(String text) { return ByteString.encodeUtf8(text).sha256().hex(); }

    static String list(Collection<String> items) {
        List<String> words = List.copyOf(items);
        int last = words.size() - 1;
        if (last < 1) return String.join("", words);
        return String.join(", ", words.subList(0, last)) + " and " + words.get(last);
    }

    static String count(int number, String singular, String plural) {
        return number + " " + (number == 1 ? singular : plural);
    }

    /** The label of a hook: its id without the hash of its settings. */
    static String hook(String id) { return id.replaceFirst("-[0-9a-f]{8}$", ""); }

    static String command(List<String> words) {
        return words.stream().map(word -> word.matches("[\\w@%+=:,./~-]+") ? word
            : "\"" + plain(word, 200) + "\"").collect(Collectors.joining(" "));
    }

    static String program(List<String> words) { return fileName(words.get(0)); }
    static String fileName(String path) { return path.substring(path.lastIndexOf('/') + 1); }

    /** The end of what a command printed, for a message; empty if it printed nothing. */
    static String lastWords(String output) {
        String line = plain(output, output.length());
        if (line.isEmpty()) return "";
        return ": " + (line.length() > 240 ? "…" + line.substring(line.length() - 239) : line);
    }

    /** The message of an exception on one line, with its name where that alone says too little. */
    static String thrown(Throwable thrown) {
        String name = thrown.getClass().getSimpleName();
        String message = plain(thrown.getMessage(), 600);
        if (thrown instanceof NullPointerException) return "a value here is null";
        if (message.isEmpty()) return name;
        if (thrown instanceof FileSystemException) return switch (name) {
            case "NoSuchFileException" -> "there is no file ";
            case "AccessDeniedException" -> "no permission for ";
            case "NotDirectoryException" -> "this is not a folder: ";
            case "FileAlreadyExistsException" -> "there is already a file ";
            default -> "";
        } + message;
        return thrown instanceof IllegalStateException || name.startsWith("IO") ? message
            : name + ": " + message;
    }

    static Stream<Throwable> causes(Throwable thrown) {
        return Stream.iterate(thrown, Objects::nonNull, Throwable::getCause).limit(10);
    }

    /** The condition in the message of Groovy's assert: its lines up to the line of bars. */
    static String condition(AssertionError failed) {
        String lines = String.valueOf(failed.getMessage()).lines()
            .takeWhile(line -> !line.matches("[ |]+")).map(String::strip)
            .collect(Collectors.joining(" "));
        return plain(lines.replaceFirst("^assert ", ""), 160);
    }

    static String diagram(String diagram) {
        return diagram.lines().limit(14)
            .map(line -> cut(line.replaceFirst("^(assert|      ) ?", ""), 90))
            .map(line -> "    " + line.replaceAll("[" + CONTROLS + "]", "?"))
            .collect(Collectors.joining("\n"));
    }

    /** Of a page its title, of another text all of it. */
    static String htmlTitle(String body) {
        return body.replaceFirst("(?is)^\\s*<(?>.*?title>)(.*?)</title>.*", "$1");
    }
    static boolean isHtml(String body) { return !htmlTitle(body).equals(body); }

    /** A URL without the user, the password and the query, which may be secret. */
    static String redactedUrl(String url) {
        return cut(url.replaceAll("://[^/@]*@", "://").replaceAll("\\?.*", "?…"), 120);
    }

    /** Groovy's distance: 10 for a letter too many, missing or wrong, 5 for two swapped. */
    static String didYouMean(String word, Collection<String> known) {
        int most = 10 * Math.max(1, word.length() / 3);
        return known.stream().filter(name -> MethodRankHelper.delDistance(word, name) <= most)
            .min(Comparator.comparingInt(name -> MethodRankHelper.delDistance(word, name)))
            .map(similar -> "; did you mean '" + similar + "'?").orElse("");
    }
}
