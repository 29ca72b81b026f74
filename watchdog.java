///usr/bin/env jbang "$0" "$@" ; exit $?
// watchdog: one check-and-heal pass over the services that rules.groovy names. Cron is its clock.
// One file, in reading order: whoever stops after section 4 knows the whole tool.
// `grep -n '// ===' watchdog.java` prints its table of contents.
//JAVA 17+
//DEPS info.picocli:picocli:4.7.7
//DEPS org.apache.groovy:groovy:5.1.1
//DEPS org.apache.groovy:groovy-json:5.1.1
//DEPS com.squareup.okhttp3:okhttp-jvm:5.5.1
//COMPILE_OPTIONS -encoding UTF-8 -XDstringConcat=inline
//RUNTIME_OPTIONS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xms24m -Xmn12m -Xmx256m -Xshare:auto -Xlog:disable -Xlog:all=error:stderr -Dfile.encoding=UTF-8 -Dpicocli.disable.closures=true

import groovy.json.JsonGenerator;
import groovy.json.JsonOutput;
import groovy.json.JsonSlurper;
import groovy.lang.Closure;
import groovy.lang.DelegatesTo;
import groovy.lang.GroovyClassLoader;
import groovy.lang.Reference;
import groovy.transform.CompileStatic;
import groovy.transform.stc.ClosureParams;
import groovy.transform.stc.SimpleType;
import java.io.*;
import java.lang.ProcessBuilder.Redirect;
import java.lang.annotation.*;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.lang.reflect.UndeclaredThrowableException;
import java.math.BigDecimal;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.*;
import java.nio.file.*;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.*;
import java.security.cert.Certificate;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import java.util.regex.*;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.net.ssl.*;
import okhttp3.*;
import okhttp3.EventListener;
import org.codehaus.groovy.ast.*;
import org.codehaus.groovy.ast.expr.*;
import org.codehaus.groovy.ast.stmt.*;
import org.codehaus.groovy.classgen.GeneratorContext;
import org.codehaus.groovy.control.*;
import org.codehaus.groovy.control.customizers.CompilationCustomizer;
import org.codehaus.groovy.control.messages.SyntaxErrorMessage;
import org.codehaus.groovy.runtime.MethodRankHelper;
import org.codehaus.groovy.syntax.SyntaxException;
import org.codehaus.groovy.syntax.Types;
import org.codehaus.groovy.ast.tools.WideningCategories.LowestUpperBoundClassNode;
import org.codehaus.groovy.transform.stc.AbstractTypeCheckingExtension;
import org.codehaus.groovy.transform.stc.StaticTypeCheckingSupport;
import org.codehaus.groovy.transform.stc.StaticTypeCheckingVisitor;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ScopeType;

// === 1. The command line =============================================================================================

/** The commands. Each is a line or two that hands on to a {@link Commands}. */
@Command(name = "watchdog", version = "watchdog " + watchdog.VERSION,
        sortOptions = false, usageHelpAutoWidth = true, abbreviateSynopsis = true,
        header = {"Checks the services in rules.groovy, heals what is down, proves it, tells you.", "",
            "  watchdog                       one check-and-heal pass, as cron runs it",
            "  watchdog check                 look at everything, touch nothing",
            "  watchdog validate              find every mistake in the rules now",
            "  watchdog pause plex --for 2h   hands off while you work on it",
            "  watchdog check https://example.com 'status == 200'",
            "                                 a one-off look without a rules file", ""},
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {"0:all healthy, or healed in this pass", "1:something is unhealthy",
            "2:a mistake in the rules or on the command line", "3:inconclusive: what a watch needs is not there",
            "4:the pass could not do its own work", "75:another pass is running"})
public final class watchdog implements Callable<Integer> {
    static final String VERSION = "1.0.0";

    @Parameters(arity = "0..*", paramLabel = "NAME", description = "Only these watches and what they need.")
    List<String> names = List.of();
    @Option(names = "--rules", paramLabel = "FILE", scope = ScopeType.INHERIT,
            description = "The rules; default: rules.groovy here, else that in ~/.config/watchdog.")
    Path rules;
    @Option(names = "--state", paramLabel = "DIR", scope = ScopeType.INHERIT,
            description = "Where memory is kept; default: ~/.local/state/watchdog.")
    Path state;
    @Option(names = "--dry-run", description = "Say what a pass would do; restart nothing, tell no one.")
    boolean dryRun;
    @Option(names = "--json", scope = ScopeType.INHERIT, description = "Print JSON for programs.") boolean json;
    @Option(names = {"-q", "--quiet"}, scope = ScopeType.INHERIT, description = "Print nothing while all is healthy.")
    boolean quiet;
    @Option(names = {"-v", "--verbose"}, scope = ScopeType.INHERIT, description = "Print each step as it happens.")
    boolean verbose;
    @Option(names = {"-h", "--help"}, scope = ScopeType.INHERIT, usageHelp = true,
            description = "Print this, or the help of a command.")
    boolean help;
    @Option(names = {"-V", "--version"}, versionHelp = true, description = "Print the version.") boolean version;

    private final Environment world;

    watchdog(Environment world) { this.world = world; }

    public static void main(String... args) {
        ProxySelector.setDefault(null); // else a SOCKS proxy set for all of Java is asked, whatever OkHttp is told
        System.exit(run(Environment.real(), args));
    }

    /** The whole program but for the exit, so that tests call what users call. */
    static int run(Environment world, String... args) {
        watchdog pass = new watchdog(world);
        try {
            return pass.takes(args) ? pass.call() : byPicocli(world, args);
        } catch (RuntimeException wrong) {
            return explain(wrong, world);
        }
    }

    /** cron's line is read here, as picocli's start is an eighth of a healthy pass; all else is left to picocli. */
    private boolean takes(String... args) {
        for (int i = 0; i < args.length; i++) {
            Path next = i + 1 < args.length && !args[i + 1].startsWith("-") ? Path.of(args[i + 1]) : null;
            if (args[i].equals("--quiet")) quiet = true;
            else if (args[i].equals("--rules") && rules == null && (rules = next) != null) i++;
            else if (args[i].equals("--state") && state == null && (state = next) != null) i++;
            else return false;
        }
        return true;
    }

    static Set<String> commands() {
        return new CommandLine(new watchdog(null)).getSubcommands().keySet();
    }

    private static int byPicocli(Environment world, String... args) {
        CommandLine line = new CommandLine(new watchdog(world));
        line.registerConverter(Duration.class, Text::parseDuration);
        line.setOut(new java.io.PrintWriter(world.out(), true)).setErr(new java.io.PrintWriter(world.err(), true));
        line.setParameterExceptionHandler((wrong, given) -> explain(wrong, world));
        line.setExecutionExceptionHandler((thrown, at, parsed) -> explain(thrown, world));
        return line.execute(args);
    }

    @Override public Integer call() { return session().pass(names); }

    private Commands session() { return new Commands(world, this); }

    @Command(description = {"Look and judge; restart nothing, tell no one, remember nothing.",
        "With a URL: a one-off look without rules, with the timing of each phase."})
    int check(@Parameters(arity = "0..*", paramLabel = "NAME | URL [CONDITION]",
            description = "Watches, or a URL and conditions such as 'status == 401'.") List<String> what) {
        boolean oneOff = what != null && !what.isEmpty() && what.get(0).contains("://");
        return oneOff ? session().checkUrl(what.get(0), what.subList(1, what.size())) : session().check(what);
    }

    @Command(description = "Compile the rules, look for their commands and secrets, and print them back in words.")
    int validate() { return session().validate(); }
    @Command(description = "What is remembered: state, restarts, budget, uptime, messages waiting.")
    int status(@Parameters(arity = "0..*", paramLabel = "NAME", description = "Only these watches and what they need.")
               List<String> names) { return session().status(names); }
    @Command(description = "Hands off a watch while you work on it.")
    int pause(@Parameters(paramLabel = "NAME") String name,
              @Option(names = "--for", paramLabel = "TIME", description = "Such as 30m or 2h; default: until resume.")
              Duration time) { return session().pause(name, time); }
    @Command(description = "End a pause.")
    int resume(@Parameters(paramLabel = "NAME") String name) { return session().resume(name); }
    @Command(description = "Send a test message through the hooks, and say what became of each.")
    int tell(@Parameters(arity = "0..1", paramLabel = "NAME") String name) { return session().tell(name); }
    @Command(description = "Fire drill: stop a service on purpose, and prove that a pass notices and heals it.")
    int drill(@Parameters(paramLabel = "NAME") String name,
              @Option(names = "--yes", description = "Do not ask.") boolean yes) { return session().drill(name, yes); }

    /** One funnel for everything that goes wrong: a clear sentence and an exit code, never a stack trace. */
    private static int explain(Exception thrown, Environment world) {
        if (thrown instanceof ExitException ending) {
            ending.lines.forEach(world.err()::println);
            return ending.exit;
        }
        if (thrown instanceof CommandLine.ParameterException wrong) {
            List<String> near = wrong instanceof CommandLine.UnmatchedArgumentException unmatched
                ? unmatched.getSuggestions() : List.of();
            String hint = near.isEmpty() ? "" : "; did you mean " + String.join(" or ", near) + "?";
            String command = wrong.getCommandLine().getCommandSpec().qualifiedName();
            world.err().println("watchdog: " + Text.lowerFirst(wrong.getMessage()) + hint);
            world.err().println("Usage: " + command + " [OPTIONS]; see --help");
            return 2;
        }
        if (thrown instanceof InvalidPathException unknown) {
            String name = unknown.getInput();
            world.err().println("watchdog: the locale has no letters for '" + name + "'; set LC_ALL=C.UTF-8");
            return 2;
        }
        Throwable bug = thrown instanceof CommandLine.ExecutionException ? thrown.getCause() : thrown;
        world.err().println("watchdog: a bug, please report it: " + Text.plain(bug.toString(), 300) + " at "
            + Arrays.stream(bug.getStackTrace()).limit(3).map(String::valueOf).collect(Collectors.joining(" < ")));
        return 4;
    }
}

/** What the outside world decides; tests hand in their own. */
record Environment(Map<String, String> env, Path cwd, Clock clock, PrintStream out, PrintStream err, boolean terminal,
             IntConsumer halt) {
    static Environment real() {
        return new Environment(System.getenv(), Path.of("").toAbsolutePath(), Clock.systemUTC(), utf8(FileDescriptor.out),
            utf8(FileDescriptor.err), System.console() != null, Runtime.getRuntime()::halt);
    }

    /** cron's locale is POSIX; names and messages may still be in any script. */
    private static PrintStream utf8(FileDescriptor to) {
        return new PrintStream(new FileOutputStream(to), true, StandardCharsets.UTF_8);
    }

    Path home() {
        String home = env.getOrDefault("HOME", System.getProperty("user.home"));
        if (home.startsWith("/")) return Path.of(home);
        throw ExitException.broken("watchdog: HOME is not set: watchdog does not know where to keep its memory;"
            + " use --state DIR");
    }

    Path folder(String variable, String otherwise) {
        String set = env.getOrDefault(variable, "");
        return set.startsWith("/") ? Path.of(set) : home().resolve(otherwise);
    }

    Instant now() { return clock.instant().truncatedTo(ChronoUnit.MILLIS); }
}

/** Ends a command with sentences for its user and an exit code. */
final class ExitException extends RuntimeException {
    final int exit;
    final List<String> lines;

    private ExitException(int exit, List<String> lines) {
        super(String.join("\n", lines), null, false, false);
        this.exit = exit;
        this.lines = List.copyOf(lines);
    }

    static ExitException mistake(String... lines) { return new ExitException(2, List.of(lines)); }
    static ExitException mistakes(List<String> lines) { return new ExitException(2, lines); }
    static ExitException broken(String line) { return new ExitException(4, List.of(line)); }
    static ExitException busy(String line) { return new ExitException(75, line.isEmpty() ? List.of() : List.of(line)); }

    /** Of several outcomes the gravest counts: 4, then 2, 1, 3, 0. */
    static int gravest(int one, int other) {
        List<Integer> order = List.of(0, 3, 1, 2, 4);
        return order.indexOf(one) >= order.indexOf(other) ? one : other;
    }
}

// === 2. The model ====================================================================================================
// A Watch is what the rules say; an Answer is what the service said; a Memory is what earlier passes learned.

/** What rules and the rest of watchdog share. Public, because a script lives in another class loader. */
interface Model {
    /** The kinds of event, for `on: [healed, gave_up]`. */
    enum EventKind { down, healed, still_down, gave_up, recovered, reminder, rules_broken, test }

    /** Why there is no response, for `restart(when: { error == refused })`. */
    enum Failure { none, refused, unknownHost, unreachable, timeout, tls, reset, closed }

    /** A message, as blocks and webhooks get it. */
    record Event(EventKind kind, String watch, String title, String text, Instant at,
                 Instant since) { }

    /** A way to notify somebody. Two with the same settings are the same hook. */
    record Hook(String label, String id, Sender sender, Set<EventKind> on, Hook orElse,
                String missing) {
        Hook with(Set<EventKind> kinds, Hook fallback) {
            return new Hook(label, id, sender, kinds, fallback, missing);
        }
    }

    /** Steps in order, and for which cause; {@code when} null: for any. The same list of steps
     *  runs once a pass. */
    record Remedy(Expectation when, List<Step> steps) {
        String inWords() {
            return steps.isEmpty() ? "nothing"
                : steps.stream().map(Step::inWords).collect(Collectors.joining(", then "));
        }
    }
}

/** How a hook sends a message. */
interface Sender { DeliveryResult send(Notifier notifier, Model.Event event); }

/** What must be true of a response. */
interface Expectation {
    /** The first condition that is not true, or null. */
    FailedCondition firstFailure(Response response);
}

/** A condition that is not true: on one line, and as a diagram of its values, or null. */
record FailedCondition(String reason, String diagram) { }

/** One service under watch, as its rules describe it. */
record Watch(String name, Probe probe, Expectation healthy, List<Model.Remedy> remedies,
             List<String> dependencies, CheckSettings patience, RestartPolicy policy, List<Model.Hook> hooks) {
    /** Its name is unique; and a record's own equals would be made of method handles in every pass. */
    @Override public boolean equals(Object other) { return other instanceof Watch watch && watch.name.equals(name); }
    @Override public int hashCode() { return name.hashCode(); }
}

/** How long and how often to look: {@code good} of {@code samples}, repeated {@code attempts} times when bad. */
record CheckSettings(Duration timeout, int attempts, Duration every, int samples, int good) { }

/** When to restart and when to speak; {@code remind} null: never again. */
record RestartPolicy(int failures, int limit, Duration per, Duration within, Duration remind) { }

/** What one look met: an answer, or the trouble that prevented it. Bounded in size; status 0 stands for no answer. */
record Response(int status, Headers headers, String body, String url, String protocol, X509Certificate certificate,
              Duration time, Map<String, Duration> phases, Model.Failure trouble, String troubleText) {
    static Response none(Model.Failure trouble, String text, Duration time, Map<String, Duration> phases) {
        return new Response(0, Headers.of(), "", "", "", null, time, phases, trouble, text);
    }

    /** What came, for a condition that does not show it. */
    String got() {
        String begin = body.isEmpty() ? "" : ", " + Text.value(body);
        return status == 0 && body.isEmpty() ? "" : "; got " + (url.isEmpty() ? "exit code " : "HTTP ") + status + begin;
    }

    Model.Failure failure() { return trouble; }

    /** A short run of the body, for messages and to tell whether an answer has changed at all. */
    String excerpt() { return Text.plain(status + " " + body, 160); }
}

/** One restart: when, what, and its result: null while it runs (the intent), then in words. */
record RestartRecord(Instant at, String what, String result) {
    static final String WAITING = "started, waiting for it", HELPED = "helped", USELESS = "did not help";
}

/** One story, from the first unhealthy pass over the threshold to the recovery. */
record Incident(Instant since, String reason, String excerpt, int restarts, int rung, int unchanged,
                boolean toldStillDown, boolean toldGivenUp, Instant lastTold) {
    Incident restarted() { return plus(1, 0, 0, false, lastTold); }
    Incident told(boolean givenUp, Instant now) { return plus(0, 0, 0, givenUp, now); }
    Incident until(Instant now) { return plus(0, 0, 0, false, WatchState.earlier(lastTold, now)); }

    /** The last rung did not help: the next is due, and the answer may not even have changed. */
    Incident uselessly(boolean sameAnswer, Instant now) {
        return plus(0, 1, sameAnswer ? 1 : 0, false, toldStillDown ? lastTold : now);
    }

    /** Nothing is told before it began, also when the clock was set back. */
    private Incident plus(int restarted, int useless, int same, boolean givenUp, Instant told) {
        return new Incident(WatchState.earlier(since, told), reason, excerpt, restarts + restarted, rung + useless,
            unchanged + same, toldStillDown || useless > 0, toldGivenUp || givenUp, told);
    }

    /** Healed again and again without any change in the answer: perhaps the rule is wrong, not the service. */
    boolean suspicious() { return unchanged >= 2 && unchanged == restarts; }
}

/** What is remembered of one watch between passes; {@code incident} null: none is open. */
record WatchState(String state, Instant since, int failures, Incident incident, List<RestartRecord> restarts) {
    static final WatchState NEW = new WatchState("new", Instant.EPOCH, 0, null, List.of());

    WatchState becomes(String now, int failuresNow, Instant at) {
        return new WatchState(now, now.equals(state) ? since : at, failuresNow, incident, restarts);
    }

    WatchState incident(Incident is) { return new WatchState(state, since, failures, is, restarts); }
    private WatchState restarts(List<RestartRecord> are) { return new WatchState(state, since, failures, incident, are); }

    /** After the clock was set back nothing lies in the future: neither budget nor reminder may wait for that. */
    WatchState until(Instant now) {
        return incident(incident == null ? null : incident.until(now))
            .restarts(restarts.stream().map(r -> new RestartRecord(earlier(r.at(), now), r.what(), r.result())).toList());
    }

    static Instant earlier(Instant one, Instant other) { return one.isBefore(other) ? one : other; }

    RestartRecord lastRestart() { return restarts.isEmpty() ? null : restarts.get(restarts.size() - 1); }

    int spent(RestartPolicy policy, Instant now) {
        return (int) restarts.stream().filter(r -> r.at().isAfter(now.minus(policy.per()))).count();
    }

    /** Written to disk before the first step runs: a crash can neither lose nor double a restart. */
    WatchState intends(String what, RestartPolicy policy, Instant now) {
        List<RestartRecord> kept = new ArrayList<>(restarts);
        while (kept.size() >= Math.max(10, policy.limit())) kept.remove(0);
        kept.add(new RestartRecord(now, what, null));
        return restarts(kept).incident(incident.restarted());
    }

    WatchState restartEnded(String result) {
        RestartRecord last = lastRestart();
        return restarts(restarts.stream().map(r -> r == last ? new RestartRecord(r.at(), r.what(), result) : r).toList());
    }
}

// === 3. Verdicts and decisions =======================================================================================
// The policy of the tool, pure: no clock, no file, no process, no network. Every rule of it is a row of a test table.

/** What a pass did about a watch; the constants are the words of --json. */
enum Action { nothing, restarted, held, gave_up, blocked, paused }

/** What is due now, why, which remedy (an index), what to tell, and what to remember. */
record Decision(Action act, String why, int remedy, List<Model.EventKind> tell, WatchState memory) {
    static Decision rest(Action act, String why, List<Model.EventKind> tell, WatchState memory) {
        return new Decision(act, why, -1, tell, memory);
    }
}

/** What a look means. {@code decide} is the whole judgement of watchdog. */
sealed interface Verdict permits Healthy, Unhealthy, Inconclusive, Paused {
    String reason();
    Decision decide(RestartPolicy policy, WatchState memory, Instant now);
    default String word() { return getClass().getSimpleName().toLowerCase(Locale.ROOT); }
    default int exit() { return this instanceof Unhealthy ? 1 : this instanceof Inconclusive ? 3 : 0; }
}

/** It answers as its rules want. An open incident closes: the ladder starts again at its first rung. */
record Healthy(String reason) implements Verdict {
    public Decision decide(RestartPolicy policy, WatchState memory, Instant now) {
        WatchState next = memory.becomes(word(), 0, now).incident(null);
        if (memory.incident() == null) return Decision.rest(Action.nothing, "", List.of(), next);
        RestartRecord last = memory.lastRestart();
        boolean ours = memory.incident().restarts() > 0 && last != null
            && (last.result() == null || last.result().equals(RestartRecord.WAITING));
        return ours ? Decision.rest(Action.nothing, "", List.of(Model.EventKind.healed), next.restartEnded(RestartRecord.HELPED))
            : Decision.rest(Action.nothing, "", List.of(Model.EventKind.recovered), next);
    }
}

/** It does not. {@code cures}: the remedies that fit the cause, as a ladder; empty with {@code noCure} saying why. */
record Unhealthy(String reason, String diagram, String excerpt, List<Integer> cures, String noCure)
        implements Verdict {
    public Decision decide(RestartPolicy policy, WatchState memory, Instant now) {
        WatchState next = memory.until(now).becomes(word(), memory.failures() + 1, now);
        Incident open = next.incident();
        if (open == null && next.failures() < policy.failures())
            return Decision.rest(Action.held, "unhealthy in " + next.failures() + " of " + policy.failures()
                + " passes before a restart", List.of(), next);
        if (open == null)
            return act(policy, next.incident(new Incident(now, reason, excerpt, 0, 0, 0, false, false, now)), now,
                List.of(Model.EventKind.down));
        if (policy.remind() != null && !now.isBefore(open.lastTold().plus(policy.remind())))
            return act(policy, next.incident(open.told(false, now)), now, List.of(Model.EventKind.reminder));
        return act(policy, next, now, List.of());
    }

    private Decision act(RestartPolicy policy, WatchState next, Instant now, List<Model.EventKind> news) {
        RestartRecord last = next.lastRestart();
        List<Model.EventKind> tell = new ArrayList<>(news);
        if (cures.isEmpty()) return Decision.rest(Action.held, noCure, tell, next);
        if (last != null && RestartRecord.WAITING.equals(last.result())) {
            if (now.isBefore(last.at().plus(policy.within())))
                return Decision.rest(Action.held, "restarted " + Text.ago(last.at(), now) + " and still within its "
                    + Text.time(policy.within()), tell, next);
            Decision late = afterRestart(RestartRecord.USELESS, next, now);
            tell.addAll(late.tell());
            next = late.memory();
        }
        Incident open = next.incident();
        if (next.spent(policy, now) < policy.limit())
            return new Decision(Action.restarted, "", cures.get(Math.min(open.rung(), cures.size() - 1)), tell, next);
        if (!open.toldGivenUp()) {
            tell.remove(Model.EventKind.reminder);
            tell.add(Model.EventKind.gave_up);
            next = next.incident(open.told(true, now));
        }
        return Decision.rest(Action.gave_up, "the budget of " + policy.limit() + " restarts per "
            + Text.time(policy.per()) + " is spent", tell, next);
    }

    /** After a restart that did not help. Said once an incident; the next pass takes the next rung. */
    Decision afterRestart(String result, WatchState memory, Instant now) {
        WatchState next = memory.restartEnded(result);
        Incident open = memory.incident();
        if (result.equals(RestartRecord.WAITING)) return Decision.rest(Action.restarted, "", List.of(), next);
        return Decision.rest(Action.restarted, "", open.toldStillDown() ? List.of() : List.of(Model.EventKind.still_down),
            next.incident(open.uselessly(excerpt.equals(open.excerpt()), now)));
    }
}

/** It cannot be judged: what it needs is not there, or a condition cannot be evaluated. Nothing is ever restarted. */
record Inconclusive(String reason, boolean blocked) implements Verdict {
    public Decision decide(RestartPolicy policy, WatchState memory, Instant now) {
        WatchState next = memory.becomes(word(), memory.failures(), now);
        return Decision.rest(blocked ? Action.blocked : Action.held, reason, List.of(), next);
    }
}

/** Somebody works on it: it is not even looked at. */
record Paused(String reason) implements Verdict {
    public Decision decide(RestartPolicy policy, WatchState memory, Instant now) {
        return Decision.rest(Action.paused, reason, List.of(), memory.becomes(word(), memory.failures(), now));
    }
}

// === 4. The pass =====================================================================================================
// 1. look at every watch, side by side        4. restart what is due, one remedy after the other, in the file's order
// 2. judge: a look becomes a verdict          5. look again until it is healthy or `within` is over
// 3. decide, remember, tell who is down       6. remember, tell how it ended

/** What became of one watch in a pass. */
final class WatchResult {
    final Watch watch;
    CheckResult look;
    Decision decision;
    String done = "", was = "";
    Duration took = Duration.ZERO;
    boolean healed;

    WatchResult(Watch watch) { this.watch = watch; }

    Verdict verdict() { return look.verdict(); }
    boolean due() { return decision.remedy() >= 0; }
    Model.Remedy remedy() { return watch.remedies().get(decision.remedy()); }
    int exit() { return verdict().exit(); }
}

/** One look: the last answer that was met and what it means. */
record CheckResult(Response answer, Verdict verdict) {
    static CheckResult without(Verdict verdict) {
        return new CheckResult(Response.none(Model.Failure.none, "", Duration.ZERO, Map.of()), verdict);
    }
}

/** One check-and-heal pass over some watches, which stand in an order where each comes after what it needs. */
record Pass(List<Watch> watches, Checker looker, CommandRunner hands, StateStore notebook, Notifier courier, Environment world,
            Consumer<String> progress, Map<String, WatchResult> outcomes, Map<List<Step>, RestartRun> treatments) {
    Pass(List<Watch> watches, Checker looker, CommandRunner hands, StateStore notebook, Notifier courier, Environment world,
         Consumer<String> progress) {
        this(watches, looker, hands, notebook, courier, world, progress,
            new LinkedHashMap<>(), new IdentityHashMap<>());
    }

    Collection<WatchResult> run() {
        for (List<Watch> now = watches; !now.isEmpty(); now = freed()) {
            judge(now);
            notebook.save();
            courier.send();
            for (Watch watch : now)
                if (outcomes.get(watch.name()).due()) heal(outcomes.get(watch.name()));
        }
        return outcomes.values();
    }

    /** Looks, judges and decides, and changes nothing but the notebook: all of a dry run. */
    Collection<WatchResult> judge(List<Watch> now) {
        Map<Watch, CheckResult> looks = looker.lookAtAll(
            now.stream().filter(watch -> notebook.pausedUntil(watch.name()) == null).toList());
        for (Watch watch : now) {
            WatchResult outcome = new WatchResult(watch);
            outcomes.put(watch.name(), outcome);
            outcome.look = blockedByNeeds(watch, looks.get(watch));
            settle(outcome, outcome.verdict().decide(watch.policy(), notebook.of(watch), world.now()));
        }
        return outcomes.values();
    }

    private CheckResult blockedByNeeds(Watch watch, CheckResult look) {
        if (look == null) return CheckResult.without(new Paused("paused " + Text.until(notebook.pausedUntil(watch.name()))));
        WatchResult need = look.verdict() instanceof Healthy ? null : missing(watch);
        return need == null ? look : new CheckResult(look.answer(),
            new Inconclusive("needs " + need.watch.name() + ", which is " + need.verdict().word(), true));
    }

    /** What a watch needs and does not have; null: nothing that was looked at. */
    private WatchResult missing(Watch watch) {
        return watch.dependencies().stream().map(outcomes::get).filter(need -> need != null && need.exit() != 0)
            .findFirst().orElse(null);
    }

    /** What waits for a watch that has been healed in this pass is looked at in this pass, once. */
    private List<Watch> freed() {
        return watches.stream().filter(watch -> outcomes.get(watch.name()).decision.act() == Action.blocked
            && missing(watch) == null).toList();
    }

    private void heal(WatchResult first) {
        Model.Remedy remedy = first.remedy();
        List<WatchResult> patients = outcomes.values().stream()
            .filter(o -> o.due() && o.remedy().steps() == remedy.steps()).toList();
        long began = System.nanoTime();
        for (WatchResult o : patients)
            notebook.put(o.watch, notebook.of(o.watch).intends(remedy.inWords(), o.watch.policy(), world.now()));
        notebook.save();
        progress.accept(Text.names(patients) + ": unhealthy, restarting: " + remedy.inWords());
        RestartRun treatment = treatments.computeIfAbsent(remedy.steps(), hands::carryOut);
        lookAgain(patients, treatment, began);
        for (WatchResult o : patients) concluded(o, treatment);
        notebook.save();
        courier.send();
    }

    /** No fixed sleep: again and again, at first quickly, until all are healthy or their time is over. */
    private void lookAgain(List<WatchResult> patients, RestartRun treatment, long began) {
        Duration longest = patients.stream().map(o -> o.watch.policy().within()).max(Duration::compareTo).orElseThrow();
        Deadline over = hands.deadline().sooner(treatment.failed() ? Duration.ZERO : longest);
        for (long nap = 50; ; nap = Math.min(nap * 9 / 8, 2_000)) {
            List<Watch> sick = patients.stream().filter(o -> o.exit() != 0).map(o -> o.watch).toList();
            looker.lookOnce(sick).forEach((watch, look) -> {
                outcomes.get(watch.name()).look = look;
                outcomes.get(watch.name()).took = Duration.ofNanos(System.nanoTime() - began);
            });
            boolean healed = patients.stream().allMatch(o -> o.exit() == 0);
            if (healed || over.passed() || treatment.diedSince() != null) return;
            over.sleep(Duration.ofMillis(nap));
        }
    }

    private void concluded(WatchResult outcome, RestartRun treatment) {
        WatchState memory = notebook.of(outcome.watch);
        RestartPolicy policy = outcome.watch.policy();
        String died = treatment.diedSince();
        outcome.done = treatment.inWords() + (died == null ? "" : "; " + died);
        outcome.healed = outcome.verdict() instanceof Healthy;
        boolean early = hands.deadline().passed() && outcome.took.compareTo(policy.within()) < 0;
        String result = treatment.failed() ? treatment.failure() : died != null ? died
            : early ? RestartRecord.WAITING : RestartRecord.USELESS;
        if (outcome.verdict() instanceof Inconclusive) memory = memory.restartEnded("cannot be judged");
        Decision after = outcome.verdict() instanceof Unhealthy still ? still.afterRestart(result, memory, world.now())
            : outcome.verdict().decide(policy, memory, world.now());
        settle(outcome, Decision.rest(Action.restarted, "", after.tell(), after.memory()));
    }

    /** Memory and messages change together, in one file. */
    private void settle(WatchResult outcome, Decision decision) {
        outcome.decision = decision;
        if (outcome.due()) outcome.was = outcome.verdict().reason();
        if (decision.tell().contains(Model.EventKind.down)) notebook.evidence(outcome.watch.name(), outcome.look.answer());
        synchronized (notebook) { // a hook's thread may save in between
            Incident before = notebook.of(outcome.watch).incident(), after = decision.memory().incident();
            Incident about = after != null ? after : before;
            notebook.put(outcome.watch, decision.memory());
            for (Model.EventKind kind : decision.tell())
                courier.post(MessageText.about(kind, outcome, about, world.now()), outcome.watch.hooks());
        }
    }
}

// === 5. Looking ======================================================================================================
// Every look is on fresh connections and bounded: in time by the watch's timeout, in size by a MiB after decompression.

/** What a watch asks: a URL, a port, or a command. */
sealed interface Probe permits HttpProbe, TcpProbe, CommandProbe {
    Response ask(Checker looker, Duration timeout);
    String inWords();
    String inWords(Response answer);
}

/** Looks at watches side by side. */
record Checker(CommandRunner hands, HttpClients web) {
    private static final int SIDE_BY_SIDE = 64;

    Map<Watch, CheckResult> lookAtAll(List<Watch> watches) { return lookAtAll(watches, this::look); }

    /** Without patience, for a service that was just restarted. */
    Map<Watch, CheckResult> lookOnce(List<Watch> watches) { return lookAtAll(watches, this::sampled); }

    private Map<Watch, CheckResult> lookAtAll(List<Watch> watches, Function<Watch, CheckResult> how) {
        ExecutorService threads = Executors.newFixedThreadPool(SIDE_BY_SIDE, DaemonThreads::thread);
        Map<Watch, Future<CheckResult>> asked = new LinkedHashMap<>();
        for (Watch watch : watches) asked.put(watch, threads.submit(() -> how.apply(watch)));
        threads.shutdown();
        Map<Watch, CheckResult> looks = new LinkedHashMap<>();
        asked.forEach((watch, look) -> looks.put(watch, await(look)));
        return looks;
    }

    private CheckResult await(Future<CheckResult> look) {
        try {
            return DaemonThreads.get(look, hands.deadline().left(),
                unknown("the pass's deadline came before the end of this look"));
        } catch (MissingSecretException missing) {
            return unknown(missing.getMessage());
        } catch (RuntimeException bug) { // of ours: no reason to restart anything
            return unknown("could not be looked at: " + Text.plain(Text.thrown(bug), 200));
        }
    }

    private static CheckResult unknown(String why) { return CheckResult.without(new Inconclusive(why, false)); }

    private CheckResult look(Watch watch) {
        CheckResult look = sampled(watch);
        for (int attempt = 1; attempt < watch.patience().attempts() && look.verdict() instanceof Unhealthy; attempt++) {
            hands.deadline().sleep(watch.patience().every());
            look = sampled(watch);
        }
        return look;
    }

    /** Stops as soon as the outcome is certain. */
    private CheckResult sampled(Watch watch) {
        int samples = watch.patience().samples(), wanted = watch.patience().good();
        for (int good = 0, bad = 0; ; ) {
            CheckResult look = bounded(watch);
            if (look.verdict() instanceof Inconclusive) return look;
            if (look.verdict() instanceof Healthy && ++good >= wanted) return look;
            if (look.verdict() instanceof Unhealthy why && ++bad > samples - wanted)
                return samples == 1 ? look : new CheckResult(look.answer(), new Unhealthy("only " + good + " good of " + wanted
                    + " wanted in " + samples + " looks, last " + why.reason(), why.diagram(), why.excerpt(),
                    why.cures(), why.noCure()));
        }
    }

    /** In threads of their own: what hangs (names, an endless condition) is left behind, not waited for. */
    private CheckResult bounded(Watch watch) {
        Duration timeout = Collections.min(List.of(watch.patience().timeout(), hands.deadline().left()));
        String most = Text.time(timeout);
        Response answer = DaemonThreads.get(DaemonThreads.run(() -> watch.probe().ask(this, timeout)), timeout.plusMillis(500),
            Response.none(Model.Failure.timeout, "no answer within " + most, timeout, Map.of()));
        return new CheckResult(answer, DaemonThreads.get(DaemonThreads.run(() -> ConditionEvaluator.of(watch, answer)), timeout,
            new Inconclusive("its conditions took longer than " + most, false)));
    }
}

/** Answer -> verdict, by the conditions of the rules. */
final class ConditionEvaluator {
    static Verdict of(Watch watch, Response answer) {
        try {
            FailedCondition unmet = firstFailure(watch, answer);
            return unmet == null ? new Healthy(watch.probe().inWords(answer)) : unhealthy(watch, answer, unmet);
        } catch (MissingSecretException missing) {
            return new Inconclusive(missing.getMessage(), false);
        } catch (Throwable thrown) { // the rules may throw anything, a StackOverflowError by a regex among it
            return new Inconclusive("could not be evaluated" + RulesLoader.lineOf(thrown) + ": "
                + Text.plain(Text.thrown(thrown), 200), false);
        }
    }

    private static FailedCondition firstFailure(Watch watch, Response answer) {
        if (answer.trouble() != Model.Failure.none) return new FailedCondition(answer.troubleText(), null);
        if (watch.healthy() != null) return watch.healthy().firstFailure(answer);
        boolean http = watch.probe() instanceof HttpProbe;
        if (http ? answer.status() / 100 == 2 : answer.status() == 0) return null;
        return new FailedCondition("expected status " + (http ? "in 200..299" : "== 0") + ", but status was "
            + answer.status(), null);
    }

    /** With the remedy that is bound to the cause, or else with all that are bound to none. */
    private static Unhealthy unhealthy(Watch watch, Response answer, FailedCondition unmet) {
        boolean useless = answer.trouble() == Model.Failure.tls;
        String noCure = useless ? "a restart renews no certificate" : "no restart in its rules for this cause";
        List<Integer> ladder = new ArrayList<>();
        for (int i = 0; i < watch.remedies().size(); i++) {
            Model.Remedy remedy = watch.remedies().get(i);
            List<Integer> steps = remedy.steps().isEmpty() ? List.of() : List.of(i);
            if (remedy.when() != null && remedy.when().firstFailure(answer) == null)
                return new Unhealthy(unmet.reason(), unmet.diagram(), answer.excerpt(), steps,
                    "its rules restart nothing for this cause");
            if (remedy.when() == null && !useless) ladder.addAll(steps);
        }
        return new Unhealthy(unmet.reason(), unmet.diagram(), answer.excerpt(), ladder,
            watch.remedies().isEmpty() ? "" : noCure);
    }
}

/** GET a URL, or what `method` and `send` make of it. */
record HttpProbe(Request request, RedirectPolicy redirects, Path trust, String missing) implements Probe {
    private static final int MOST_REDIRECTS = 10, MOST_BYTES = 1 << 20;

    public String inWords() { return request.method() + " " + Text.url(request.url().toString()); }
    public String inWords(Response answer) { return answer.status() + " in " + Text.time(answer.time()); }

    public Response ask(Checker looker, Duration timeout) {
        if (missing != null) throw new MissingSecretException(missing);
        Deadline over = Deadline.in(timeout);
        ExchangeTimer phases = new ExchangeTimer();
        try {
            Request next = request;
            for (int hops = 0; hops <= MOST_REDIRECTS; hops++) {
                try (okhttp3.Response response = looker.web().call(next, over, trust, phases).execute()) {
                    next = redirects.next(response);
                    if (next == null) return answer(response, phases);
                }
            }
            return phases.none(Model.Failure.closed, "more than " + MOST_REDIRECTS + " redirects");
        } catch (IOException | RuntimeException thrown) { // OkHttp throws more than IOException at hostile answers
            return HttpClients.trouble(thrown, request.url().host(), timeout, phases);
        }
    }

    private static Response answer(okhttp3.Response response, ExchangeTimer phases) throws IOException {
        MediaType type = response.body().contentType();
        Charset charset = type == null ? StandardCharsets.UTF_8 : type.charset(StandardCharsets.UTF_8);
        String body = new String(response.peekBody(MOST_BYTES).bytes(), charset);
        X509Certificate certificate = response.handshake() == null ? null
            : (X509Certificate) response.handshake().peerCertificates().get(0);
        return new Response(response.code(), response.headers(), body, response.request().url().toString(),
            response.protocol().toString(), certificate, phases.time(), phases.took, Model.Failure.none, "");
    }
}

/** Which redirects count as an answer of the service itself. */
enum RedirectPolicy {
    none, sameHost, any;

    /** What to ask next; null: this answer is judged as it is. A login page elsewhere that says 200 is not health. */
    Request next(okhttp3.Response response) {
        String location = response.header("Location");
        HttpUrl from = response.request().url();
        HttpUrl to = location == null || !response.isRedirect() || this == none ? null : from.resolve(location);
        if (to == null || from.isHttps() && !to.isHttps()) return null;
        if (to.host().equals(from.host())) return response.request().newBuilder().url(to).build();
        return this == any ? new Request.Builder().url(to).build() : null; // no credentials go to another host
    }
}

/** Healthy when the port accepts a connection. */
record TcpProbe(String host, int port) implements Probe {
    public String inWords() { return "connect to " + host + ":" + port; }
    public String inWords(Response answer) { return "connected in " + Text.time(answer.time()); }

    public Response ask(Checker looker, Duration timeout) {
        ExchangeTimer phases = new ExchangeTimer();
        try (Socket socket = new Socket(Proxy.NO_PROXY)) {
            socket.connect(new InetSocketAddress(host, port), (int) timeout.toMillis());
            return new Response(0, Headers.of(), "", "tcp://" + host + ":" + port, "tcp", null, phases.time(),
                phases.took, Model.Failure.none, "");
        } catch (IOException thrown) {
            return HttpClients.trouble(thrown, host, timeout, phases);
        }
    }
}

/** Healthy when the command exits with 0; `status` is its exit code and `body` what it printed. */
record CommandProbe(List<String> words) implements Probe {
    public String inWords() { return "run " + Text.command(words); }
    public String inWords(Response answer) { return "exit code " + answer.status() + " in " + Text.time(answer.time()); }

    public Response ask(Checker looker, Duration timeout) {
        MissingSecretException.check(words.toString());
        ExchangeTimer phases = new ExchangeTimer();
        try {
            CommandResult ran = looker.hands().run(words, timeout, Map.of());
            return new Response(ran.exit(), Headers.of(), ran.output(), "", "command", null, phases.time(),
                phases.took, Model.Failure.none, "");
        } catch (StepFailedException failed) {
            boolean late = phases.time().compareTo(timeout) >= 0;
            return phases.none(late ? Model.Failure.timeout : Model.Failure.closed, failed.getMessage());
        }
    }
}

/** The clock of an exchange: how long it and each phase of it took, and which phase it is in. */
final class ExchangeTimer extends EventListener {
    final Map<String, Duration> took = Collections.synchronizedMap(new LinkedHashMap<>());
    volatile String now = "connecting";
    private final long began = System.nanoTime();
    private volatile long since = began;

    Duration time() { return Duration.ofNanos(System.nanoTime() - began); }
    Response none(Model.Failure trouble, String text) { return Response.none(trouble, text, time(), took); }

    private void ends(String phase, String next) {
        took.merge(phase, Duration.ofNanos(System.nanoTime() - since), Duration::plus);
        begins(next);
    }

    private void begins(String next) {
        now = next;
        since = System.nanoTime();
    }

    @Override public void dnsStart(Call call, String name) { begins("resolving the name"); }
    @Override public void dnsEnd(Call call, String name, List<InetAddress> found) { ends("dns", "connecting"); }
    @Override public void connectStart(Call call, InetSocketAddress to, Proxy proxy) { begins("connecting"); }
    @Override public void secureConnectStart(Call call) { ends("connect", "in the TLS handshake"); }
    @Override public void secureConnectEnd(Call call, Handshake shake) { ends("tls", "waiting for the answer"); }
    @Override public void connectEnd(Call call, InetSocketAddress to, Proxy proxy, Protocol protocol) {
        if (!took.containsKey("tls")) ends("connect", "waiting for the answer");
    }
    @Override public void requestHeadersStart(Call call) { begins("waiting for the answer"); }
    @Override public void responseHeadersStart(Call call) { ends("first byte", "reading the answer"); }
    @Override public void responseBodyEnd(Call call, long bytes) { ends("body", "done"); }
}

/** The one place that talks HTTP: for looks, hooks and heartbeats. */
final class HttpClients {
    /** Begun when the program begins, side by side: authorities and OkHttp take longer to load than all the rest. */
    private final CompletableFuture<X509TrustManager> known = CompletableFuture.supplyAsync(() -> managerOf(null),
        DaemonThreads::begin);
    private final CompletableFuture<OkHttpClient> base = CompletableFuture.supplyAsync(HttpClients::builder, DaemonThreads::begin)
        .thenCombine(known, HttpClients::trusting);
    private final Map<Path, OkHttpClient> trusting = new ConcurrentHashMap<>();

    private static OkHttpClient.Builder builder() {
        // Under load OkHttp warns of a "leaked" connection: that means nothing to a process that ends, and mails cron.
        java.util.logging.Logger.getLogger("").setLevel(java.util.logging.Level.OFF);
        return new OkHttpClient.Builder().proxy(Proxy.NO_PROXY).followRedirects(false).followSslRedirects(false);
    }

    private static OkHttpClient trusting(OkHttpClient.Builder client, X509TrustManager trusted) {
        try {
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, new X509TrustManager[] {trusted}, null);
            return client.sslSocketFactory(context.getSocketFactory(), trusted).build();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** On a connection of its own, so that a look proves that one can be made; with the bound that OkHttp has not. */
    Call call(Request request, Deadline over, Path trust, EventListener listener) {
        OkHttpClient client = trust == null ? base.join() : trusting.computeIfAbsent(trust,
            pem -> trusting(base.join().newBuilder(), trustManager(pem)));
        Duration most = Collections.max(List.of(over.left(), Duration.ofMillis(1))); // 0 would be without end
        String agent = Objects.requireNonNullElse(request.header("User-Agent"), "watchdog/" + watchdog.VERSION);
        return client.newBuilder().connectionPool(new ConnectionPool(0, 1, TimeUnit.MILLISECONDS))
            .callTimeout(most).connectTimeout(most).readTimeout(most).writeTimeout(most).eventListener(listener).build()
            .newCall(request.newBuilder().header("User-Agent", agent).build());
    }

    /** The system's certificate authorities and those of a file; verification is never off. */
    static X509TrustManager trustManager(Path pem) {
        try (var in = Files.newInputStream(pem)) {
            KeyStore all = KeyStore.getInstance(KeyStore.getDefaultType());
            all.load(null, null);
            for (Certificate extra : CertificateFactory.getInstance("X.509").generateCertificates(in))
                all.setCertificateEntry("extra" + all.size(), extra);
            if (all.size() == 0) throw new CertificateException("no certificate in it");
            for (X509Certificate known : managerOf(null).getAcceptedIssuers())
                all.setCertificateEntry("known" + all.size(), known);
            return managerOf(all);
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalArgumentException("cannot read certificates from " + pem + ": " + Text.thrown(e));
        }
    }

    private static X509TrustManager managerOf(KeyStore store) {
        try {
            TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            factory.init(store);
            return (X509TrustManager) factory.getTrustManagers()[0];
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** An exception as a word for rules and a sentence for people. The order matters: TLS wraps everything. */
    static Response trouble(Throwable thrown, String host, Duration timeout, ExchangeTimer phases) {
        String text = String.valueOf(thrown.getMessage());
        if (thrown instanceof UnknownHostException)
            return phases.none(Model.Failure.unknownHost, host + " does not resolve");
        if (thrown instanceof InterruptedIOException)
            return phases.none(Model.Failure.timeout, "no answer within " + Text.time(timeout) + " (" + phases.now + ")");
        if (thrown instanceof NoRouteToHostException || text.contains("unreachable"))
            return phases.none(Model.Failure.unreachable, host + " is unreachable");
        if (thrown instanceof ConnectException)
            return phases.none(Model.Failure.refused, "connection refused by " + host);
        String certificate = certificateTrouble(thrown, host);
        if (certificate != null) return phases.none(Model.Failure.tls, certificate);
        if (thrown instanceof SSLHandshakeException && !text.contains("terminated"))
            return phases.none(Model.Failure.closed, "TLS failed: " + Text.plain(text, 120));
        if (thrown instanceof SocketException || thrown.getClass().getSimpleName().equals("StreamResetException"))
            return phases.none(Model.Failure.reset, "the connection was reset (" + phases.now + ")");
        if (thrown instanceof EOFException || text.contains("unexpected end of stream"))
            return phases.none(Model.Failure.closed, "the connection was closed before the end of the answer");
        return phases.none(Model.Failure.closed, "unreadable answer: " + Text.plain(text, 120));
    }

    private static String certificateTrouble(Throwable thrown, String host) {
        Predicate<Class<?>> among = type -> Text.causes(thrown).anyMatch(type::isInstance);
        if (thrown instanceof SSLPeerUnverifiedException) return "the certificate is not for " + host;
        if (among.test(CertificateExpiredException.class)) return "the certificate of " + host + " has expired";
        if (among.test(CertificateNotYetValidException.class))
            return "the certificate of " + host + " is not valid yet; is the clock of this machine right?";
        if (!among.test(CertificateException.class) && !among.test(CertPathValidatorException.class)) return null;
        return "the certificate of " + host
            + " is not trusted; if it is your own authority's, name its file: trust 'ca.pem'";
    }
}

// === 6. Restarting ===================================================================================================
// The only section that runs processes. Commands are lists of words: no shell unless `sh` asks for one.

/** A step of a remedy, as data: `validate` and --dry-run print what a pass would run. */
sealed interface Step permits StopStep, StartStep, RunStep, PauseStep, CallStep {
    String inWords();

    /** Does it; returns what a command printed. Fails with a sentence. */
    String take(CommandRunner hands, RestartRun treatment);

    default List<String> program() { return List.of(); }
}

record StopStep(List<String> words, Duration grace) implements Step {
    public String inWords() { return "stop '" + Text.command(words) + "'"; }

    public String take(CommandRunner hands, RestartRun treatment) {
        treatment.did(new ProcessStopper(hands).stop(words, grace));
        return "";
    }

    StopStep {
        if (Text.command(words).length() < 3) throw new IllegalArgumentException(
            "stop '" + Text.command(words) + "' is too short to be safe");
    }
}

record StartStep(List<String> words, String log) implements Step {
    public String inWords() { return "start '" + Text.command(words) + "'"; }
    public List<String> program() { return words; }

    public String take(CommandRunner hands, RestartRun treatment) {
        treatment.started(hands.start(words, log));
        return "";
    }
}

record RunStep(List<String> words, Duration timeout) implements Step {
    public String inWords() {
        boolean byShell = words.size() == 3 && words.subList(0, 2).equals(List.of("/bin/sh", "-c"));
        return byShell ? "sh '" + Text.plain(words.get(2), 200) + "'" : "run '" + Text.command(words) + "'";
    }

    public List<String> program() { return words; }

    public String take(CommandRunner hands, RestartRun treatment) {
        CommandResult ran = hands.run(words, timeout, Map.of());
        if (ran.exit() != 0) throw new StepFailedException(inWords() + " failed with exit code " + ran.exit() + ran.lastWords());
        treatment.did("ran " + inWords().replaceFirst("^run ", ""));
        return ran.output();
    }
}

record PauseStep(Duration time) implements Step {
    public String inWords() { return "pause " + Text.time(time); }

    public String take(CommandRunner hands, RestartRun treatment) {
        hands.deadline().sleep(time);
        return "";
    }
}

record CallStep(Runnable code) implements Step {
    public String inWords() { return "call { … }"; }

    public String take(CommandRunner hands, RestartRun treatment) {
        code.run();
        return "";
    }
}

/** A step that could not be done; its message is for people. */
final class StepFailedException extends RuntimeException {
    StepFailedException(String message) { super(message, null, false, false); }
}

/** A process that was started to stay, and the log in which its last words stand. */
record StartedProcess(Process process, List<String> words, File log, long logBegan) {
    /** In words, if it has ended with an error; a program that goes to the background itself ends with 0. */
    String died() {
        if (process.isAlive() || process.exitValue() == 0) return null;
        String died = Text.program(words) + " ended with exit code " + process.exitValue();
        try {
            return died + (log.equals(CommandRunner.NOWHERE) ? "; start it with log: 'file' to see why"
                : Text.lastWords(CommandRunner.tail(log, logBegan)));
        } catch (IOException noLog) {
            return died;
        }
    }
}

/** What a command printed (its last 16 KiB) and its exit code. */
record CommandResult(int exit, String output) {
    String lastWords() { return Text.lastWords(output); }
}

/** What a remedy has done so far, and why it failed if it did. */
final class RestartRun {
    private final List<String> done = new ArrayList<>();
    private final List<StartedProcess> started = new ArrayList<>();
    private String failure;

    void did(String what) { done.add(what); }
    void failed(String why) { failure = why; }
    boolean failed() { return failure != null; }
    String failure() { return failure; }

    void started(StartedProcess one) {
        started.add(one);
        did("started " + Text.program(one.words()) + " (pid " + one.process().pid() + ")");
    }

    String diedSince() {
        return failed() ? null : started.stream().map(StartedProcess::died).filter(Objects::nonNull).findFirst().orElse(null);
    }

    String inWords() {
        String all = String.join(", ", done);
        return failure == null ? all : all + (all.isEmpty() ? "" : ", then ") + failure;
    }
}

/** Starts and runs commands, with the rules' folder as working directory and the rules' `path` before PATH. */
record CommandRunner(Path folder, Path scratch, List<String> before, Map<String, String> env, Deadline deadline,
             Consumer<String> progress) {
    static final File NOWHERE = new File("/dev/null");
    private static final int KEPT = 16 * 1024, MOST_LOG = 1 << 20, MOST_OUTPUT = 64 << 20;

    /** All steps, in order; the first that fails ends the remedy. */
    RestartRun carryOut(List<Step> steps) {
        RestartRun treatment = new RestartRun();
        try {
            for (Step step : steps) take(step, treatment);
        } catch (StepFailedException | MissingSecretException failed) {
            treatment.failed(failed.getMessage());
        } catch (Throwable thrown) { // plain Groovy of the rules
            treatment.failed("restart failed" + RulesLoader.lineOf(thrown) + ": " + Text.plain(Text.thrown(thrown), 200));
        }
        return treatment;
    }

    private String take(Step step, RestartRun treatment) {
        if (deadline.passed()) throw new StepFailedException("the pass's deadline came before '" + step.inWords() + "'");
        MissingSecretException.check(step.inWords());
        progress.accept("  " + step.inWords());
        return step.take(this, treatment);
    }

    /** In a session of its own, beyond the end of this pass and cron's job; without a pipe of ours to die of later. */
    StartedProcess start(List<String> words, String log) {
        List<String> session = Files.isExecutable(Path.of("/usr/bin/setsid")) ? List.of("/usr/bin/setsid")
            : List.of("/usr/bin/perl", "-MPOSIX", "-e", "POSIX::setsid(); exec { $ARGV[0] } @ARGV or die $!");
        File file = log == null ? NOWHERE : folder.resolve(log).toFile();
        try {
            long began = rotated(file);
            Process process = launch(session, words, Map.of(), Redirect.appendTo(file));
            StartedProcess started = new StartedProcess(process, words, file, began);
            Deadline.in(Duration.ofMillis(100)).await(() -> !process.isAlive());
            if (started.died() != null) throw new StepFailedException(started.died());
            SecureFiles.folder(scratch.resolve("started"));
            SecureFiles.write(startedBy(words), born(process.toHandle()).getBytes(StandardCharsets.UTF_8));
            return started;
        } catch (IOException | OutOfMemoryError e) { // fork may fail as "unable to create native thread"
            throw new StepFailedException("cannot start '" + Text.command(words) + "': " + Text.thrown(e));
        }
    }

    /** A daemon's log may grow for years: beyond a mebibyte it begins anew, keeping one old file. */
    private static long rotated(File log) throws IOException {
        if (log.length() < MOST_LOG) return log.length();
        Files.move(log.toPath(), Path.of(log + ".old"), StandardCopyOption.REPLACE_EXISTING);
        return 0;
    }

    /** A script that ends in `exec` runs under another name: so which process these words started is kept. */
    private Path startedBy(List<String> words) { return scratch.resolve("started/" + Text.hash(words.toString())); }

    private static String born(ProcessHandle process) { return process.pid() + " " + process.info().startInstant(); }

    /** Whether this very process, and not a later one with its number, was started by these words. */
    boolean started(ProcessHandle process, List<String> words) {
        try {
            return Files.readString(startedBy(words)).equals(born(process));
        } catch (IOException neverStarted) {
            return false;
        }
    }

    /** To its end. Its output goes to a file: a daemon that it leaves behind would hold a pipe open, and die of it. */
    CommandResult run(List<String> words, Duration timeout, Map<String, String> more) {
        try {
            Path printed = Files.createTempFile(scratch, "run-", ".tmp");
            try {
                Process process = launch(List.of(), words, more, Redirect.to(printed.toFile()));
                return ended(process, words, timeout, printed.toFile());
            } finally {
                printed.toFile().delete();
            }
        } catch (IOException | OutOfMemoryError e) {
            throw new StepFailedException("cannot run '" + Text.command(words) + "': " + Text.thrown(e));
        }
    }

    private Process launch(List<String> session, List<String> words, Map<String, String> more, Redirect to)
            throws IOException {
        List<String> command = new ArrayList<>(session);
        command.add(resolve(words).toString());
        command.addAll(words.subList(1, words.size()));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile());
        builder.redirectInput(NOWHERE).redirectErrorStream(true).redirectOutput(to);
        builder.environment().clear();
        builder.environment().putAll(env);
        builder.environment().put("PATH", path());
        more.forEach((name, value) -> builder.environment().put(name, value.replace("\0", "")));
        return builder.start();
    }

    private CommandResult ended(Process process, List<String> words, Duration timeout, File printed) throws IOException {
        deadline.sooner(timeout).await(() -> !process.isAlive() || printed.length() > MOST_OUTPUT);
        if (!process.isAlive()) return new CommandResult(process.exitValue(), tail(printed, 0));
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly();
        throw new StepFailedException("'" + Text.command(words) + "' " + (printed.length() > MOST_OUTPUT
            ? "printed more than 64 MiB" : "did not end within " + Text.time(timeout))
            + " and was ended" + Text.lastWords(tail(printed, 0)));
    }

    /** What stands in a file from there on, but no more of it than its last 16 KiB. */
    static String tail(File file, long from) throws IOException {
        try (var in = new FileInputStream(file)) {
            in.skip(Math.max(from, file.length() - KEPT));
            return new String(in.readNBytes(KEPT), StandardCharsets.UTF_8);
        }
    }

    /** Which file a command's first word names; a sentence that says what is missing if there is none. */
    Path resolve(List<String> words) { return resolve(words.get(0), folder, path()); }

    private String path() {
        return Stream.concat(before.stream(), Stream.of(env.getOrDefault("PATH", "/usr/bin:/bin")))
            .collect(Collectors.joining(":"));
    }

    static Path resolve(String program, Path folder, String path) {
        if (!program.contains("/"))
            return Stream.of(path.split(":")).map(place -> folder.resolve(place).resolve(program))
                .filter(file -> Files.isRegularFile(file) && Files.isExecutable(file)).findFirst().orElseThrow(() ->
                    new StepFailedException("no program '" + program + "' in " + path + "; name its folder: path '/opt/...'"));
        Path file = folder.resolve(program).normalize();
        if (Files.isDirectory(file)) throw new StepFailedException(file + " is a folder");
        if (!Files.isRegularFile(file)) throw new StepFailedException(file + " does not exist");
        if (!Files.isExecutable(file)) throw new StepFailedException(file + " is not executable; chmod +x would make it so");
        String interpreter = ProcessStopper.interpreter(file);
        if (interpreter != null && interpreter.startsWith("/") && !Files.isExecutable(Path.of(interpreter)))
            throw new StepFailedException(file + " names the interpreter " + interpreter + ", which does not exist");
        return file;
    }
}

/** Finds and ends processes of this user by the words they were started with. */
record ProcessStopper(CommandRunner hands) {
    private static final int MOST = 5;
    private static final Duration AFTER_KILL = Duration.ofSeconds(2);
    private static final Set<Long> OURSELVES = Stream.iterate(ProcessHandle.current(), Objects::nonNull,
        p -> p.parent().orElse(null)).map(ProcessHandle::pid).collect(Collectors.toSet());

    /** SIGTERM, SIGCONT so that a stopped one can die, then SIGKILL; with children. Returns what was done, in words. */
    String stop(List<String> words, Duration grace) {
        String program = Text.program(words);
        List<ProcessHandle> roots = matching(words);
        if (roots.isEmpty()) return program + " was not running";
        if (roots.size() > MOST)
            throw new StepFailedException("stop '" + Text.command(words) + "' would end " + roots.size()
                + " processes; more than " + MOST + " is refused, name more of its arguments");
        // Children are noted before their parents die: afterwards nobody knows whose they were.
        List<ProcessHandle> all = Stream.concat(roots.stream().flatMap(ProcessHandle::descendants), roots.stream())
            .filter(p -> !OURSELVES.contains(p.pid())).distinct().toList();
        boolean killed = end(all, grace);
        List<ProcessHandle> left = alive(all);
        if (!left.isEmpty()) throw new StepFailedException("cannot stop " + program + " (" + pids(left) + ")");
        List<ProcessHandle> again = matching(words);
        if (!again.isEmpty())
            throw new StepFailedException(program + " came back by itself (" + pids(again) + "): something else restarts it, so "
                + "tell that to restart it, such as run 'systemctl restart ...'");
        return (killed ? "killed " : "stopped ") + program + " (" + pids(roots) + ")";
    }

    /** Processes of this user that run these words; refuses if another user's process does. */
    private List<ProcessHandle> matching(List<String> words) {
        String me = ProcessHandle.current().info().user().orElse("?");
        List<ProcessHandle> found = ProcessHandle.allProcesses().filter(p -> !OURSELVES.contains(p.pid())
            && (runs(p, words) || hands.started(p, words)) && !dead(p)).toList();
        for (ProcessHandle one : found) {
            String user = one.info().user().orElse(me);
            if (!user.equals(me)) throw new StepFailedException(Text.program(words) + " (pid " + one.pid() + ") belongs to user "
                + user + " and is not " + me + "'s to stop");
        }
        return found;
    }

    private boolean runs(ProcessHandle process, List<String> words) {
        List<String> argv = argv(process);
        String program = words.get(0);
        if (isProgram(argv.get(0), program)) return startsWith(argv, 1, words);
        int at = 1; // a script shows its interpreter first, perhaps with flags
        while (at < argv.size() && argv.get(at).startsWith("-")) at++;
        if (at == argv.size() || !base(argv.get(at)).equals(base(program)) || !startsWith(argv, at + 1, words))
            return false;
        try {
            Path script = Path.of("/proc/" + process.pid() + "/cwd").resolve(argv.get(at)).toRealPath();
            return (!program.contains("/") || isProgram(script.toString(), program)) && interprets(argv.get(0), script);
        } catch (IOException gone) {
            return false;
        }
    }

    /** The executable and the arguments; from /proc if there is one, as Java cuts long ones and hides other users'. */
    private static List<String> argv(ProcessHandle process) {
        List<String> argv = new ArrayList<>();
        try {
            byte[] line = Files.readAllBytes(Path.of("/proc/" + process.pid() + "/cmdline"));
            argv.addAll(List.of(new String(line, StandardCharsets.UTF_8).split("\0", -1)));
        } catch (IOException noProc) {
            argv.add("");
            argv.addAll(List.of(process.info().arguments().orElse(new String[0])));
        }
        process.info().command().ifPresent(program -> argv.set(0, program.replace(" (deleted)", "")));
        return argv;
    }

    /** By name, or by the file that the name leads to: `python3` runs as python3.11. */
    private boolean isProgram(String running, String word) {
        if (running.equals(word) || base(running).equals(word)) return true;
        try {
            Path named = hands.resolve(List.of(word));
            return named.toString().equals(running) || named.toRealPath().toString().equals(running);
        } catch (StepFailedException | IOException unknown) {
            return false;
        }
    }

    private static boolean startsWith(List<String> argv, int from, List<String> words) {
        return Collections.indexOfSubList(argv.subList(from, argv.size()), words.subList(1, words.size())) == 0;
    }

    /** `vim cloudflared` does not run cloudflared: the script's first line must name the program that is running. */
    private boolean interprets(String running, Path script) {
        String interpreter = interpreter(script);
        return interpreter != null && (base(running).startsWith(base(interpreter)) || isProgram(running, interpreter));
    }

    /** The program that a script's first line names, itself or by `env`; null if the file is no script. */
    static String interpreter(Path file) {
        try (var in = Files.newInputStream(file)) {
            String first = new String(in.readNBytes(256), StandardCharsets.UTF_8).lines().findFirst().orElse("");
            return !first.startsWith("#!") ? null : Stream.of(first.substring(2).trim().split("\\s+"))
                .filter(word -> !word.startsWith("-") && !base(word).equals("env")).findFirst().orElse(null);
        } catch (IOException e) {
            return null;
        }
    }

    private static String base(String program) { return program.substring(program.lastIndexOf('/') + 1); }

    /** A zombie is dead, though the kernel and Java say that it is alive. */
    private boolean dead(ProcessHandle process) {
        if (!process.isAlive()) return true;
        try {
            if (!Files.exists(Path.of("/proc/self"))) // as on macOS
                return hands.run(List.of("/bin/ps", "-o", "stat=", "-p", String.valueOf(process.pid())), AFTER_KILL,
                    Map.of()).output().startsWith("Z");
            String stat = Files.readString(Path.of("/proc/" + process.pid() + "/stat"), StandardCharsets.ISO_8859_1);
            return stat.startsWith("Z", stat.lastIndexOf(')') + 2);
        } catch (IOException goneMeanwhile) {
            return true;
        }
    }

    private boolean end(List<ProcessHandle> all, Duration grace) {
        all.forEach(ProcessHandle::destroy);
        // Java has no SIGCONT; the shell's own `kill` is the one that is everywhere.
        String wake = alive(all).stream().map(p -> "kill -CONT " + p.pid()).collect(Collectors.joining("\n"));
        hands.run(List.of("/bin/sh", "-c", wake), AFTER_KILL, Map.of());
        if (hands.deadline().sooner(grace).await(() -> alive(all).isEmpty())) return false;
        alive(all).forEach(ProcessHandle::destroyForcibly);
        Deadline.in(AFTER_KILL).await(() -> alive(all).isEmpty());
        return true;
    }

    private List<ProcessHandle> alive(List<ProcessHandle> all) { return all.stream().filter(p -> !dead(p)).toList(); }

    private static String pids(List<ProcessHandle> processes) {
        return processes.stream().map(p -> "pid " + p.pid()).collect(Collectors.joining(", "));
    }
}

/** A moment by which waiting ends, on the clock that nobody can set. */
record Deadline(long nanos) {
    static Deadline in(Duration time) { return new Deadline(System.nanoTime() + time.toNanos()); }

    boolean passed() { return left().isZero(); }
    Duration left() { return Duration.ofNanos(Math.max(0, nanos - System.nanoTime())); }

    Deadline sooner(Duration time) {
        Deadline other = in(time);
        return other.nanos - nanos < 0 ? other : this;
    }

    /** Asks again and again, at first quickly; false if it did not become true in time. */
    boolean await(BooleanSupplier done) {
        for (long nap = 2; !done.getAsBoolean(); nap = Math.min(nap * 2, 50)) {
            if (passed()) return false;
            sleep(Duration.ofMillis(nap));
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
    static <T> Future<T> run(Callable<T> work) {
        FutureTask<T> task = new FutureTask<>(work);
        begin(task);
        return task;
    }

    static void begin(Runnable work) { thread(work).start(); }

    static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "watchdog");
        thread.setDaemon(true);
        return thread;
    }

    /** The result, or {@code otherwise} when it does not come in time. */
    static <T> T get(Future<T> result, Duration time, T otherwise) {
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

// === 7. Notifying ====================================================================================================
// Messages change together with memory, in one file, and stay there until their hook has taken them.

/** One message for one hook, on its way. */
record OutboxEntry(Model.Event event, String hook, Instant notBefore) {
    OutboxEntry later(Instant when) { return new OutboxEntry(event, hook, when); }
}

/** What became of a message; {@code again}: after how long at the least it is to be tried again, null: never. */
record DeliveryResult(boolean taken, String text, Duration again) {
    static final DeliveryResult DONE = new DeliveryResult(true, "taken", null);

    static DeliveryResult later(String why) { return new DeliveryResult(false, why, Duration.ZERO); }
    static DeliveryResult refused(String why) { return new DeliveryResult(false, why, null); }
}

/** Delivers what is due, each hook in a thread of its own; no hook can hold up a restart or another hook. */
final class Notifier {
    static final Duration PATIENCE = Duration.ofSeconds(10), EXPIRY = Duration.ofHours(24);
    private static final int MOST_WAITING = 50;
    private static final CompletableFuture<?> NOTHING = CompletableFuture.completedFuture(null);
    private final StateStore notebook;
    private final Map<String, Model.Hook> hooks = new HashMap<>();
    private final Environment world;
    private final HttpClients web;
    final CommandRunner hands;
    private final List<String> troubles = Collections.synchronizedList(new ArrayList<>());
    private final Set<String> resting = ConcurrentHashMap.newKeySet(); // they failed in this pass already
    private final Map<String, CompletableFuture<?>> sending = new HashMap<>();

    Notifier(StateStore notebook, List<Model.Hook> hooks, Environment world, HttpClients web, CommandRunner hands) {
        this.notebook = notebook;
        for (Model.Hook hook : hooks) // also by its service: settings may be edited while a message waits
            for (String name : List.of(hook.id(), hook.label())) this.hooks.putIfAbsent(name, hook);
        this.world = world;
        this.web = web;
        this.hands = hands;
    }

    void post(Model.Event event, Collection<Model.Hook> to) {
        for (Model.Hook hook : new LinkedHashSet<>(to))
            if (hook.on().contains(event.kind())) notebook.post(new OutboxEntry(event, hook.id(), event.at()));
    }

    /** In the background; what is posted meanwhile goes with the next call. */
    void send() {
        Set<String> waiting = new HashSet<>();
        for (OutboxEntry letter : notebook.outbox()) waiting.add(letter.hook());
        for (String id : waiting)
            sending.put(id, sending.getOrDefault(id, NOTHING).thenRunAsync(() -> deliver(id), DaemonThreads::begin));
    }

    /** Waits for what is on its way, and says what could not be delivered and what happens to it. */
    List<String> finish() {
        var all = CompletableFuture.allOf(sending.values().toArray(new CompletableFuture<?>[0]));
        DaemonThreads.get(all, hands.deadline().sooner(PATIENCE.multipliedBy(3)).left(), null);
        return List.copyOf(troubles);
    }

    private void deliver(String id) {
        List<OutboxEntry> letters = notebook.outbox().stream().filter(letter -> letter.hook().equals(id)).toList();
        if (resting.contains(id) || letters.stream().anyMatch(this::early)) return;
        Model.Hook hook = hooks.getOrDefault(id, hooks.get(Text.hook(id)));
        List<OutboxEntry> fresh = fresh(id, letters, hook != null);
        if (!fresh.isEmpty()) deliver(hook, fresh);
        notebook.save();
    }

    /** The service asked for a pause: what came later waits with it; not for ever, should the clock be set back. */
    private boolean early(OutboxEntry letter) {
        return letter.notBefore().isAfter(world.now()) && !letter.notBefore().isAfter(world.now().plus(EXPIRY));
    }

    /** What is still news: not for a hook that is gone, nor a day old. The rest is dropped, and that is said. */
    private List<OutboxEntry> fresh(String id, List<OutboxEntry> letters, boolean known) {
        Instant oldest = world.now().minus(EXPIRY);
        List<OutboxEntry> news = letters.stream().filter(letter -> known && letter.event().at().isAfter(oldest)).toList();
        List<OutboxEntry> fresh = news.subList(Math.max(0, news.size() - MOST_WAITING), news.size());
        List<OutboxEntry> stale = letters.stream().filter(letter -> !fresh.contains(letter)).toList();
        String dropped = "dropped " + Text.count(stale.size(), "message");
        if (!stale.isEmpty()) troubles.add(Text.hook(id) + (!known ? " is no longer in the rules: " + dropped
            : ": " + dropped + " that could not be delivered in time: " + stale.get(0).event().title()));
        notebook.drop(stale);
        return fresh;
    }

    private void deliver(Model.Hook hook, List<OutboxEntry> fresh) {
        Model.Event event = MessageText.merged(fresh.stream().map(OutboxEntry::event).toList(), world.now());
        DeliveryResult delivery = attempt(hook, event);
        boolean elsewhere = !delivery.taken() && hook.orElse() != null && attempt(hook.orElse(), event).taken();
        boolean waits = delivery.again() != null && !elsewhere;
        if (!delivery.taken()) troubles.add(hook.label() + (delivery.again() == null ? " refused" : " did not take")
            + " the message: " + delivery.text() + (elsewhere ? "; " + hook.orElse().label() + " took it instead"
                : waits ? "; it waits for the next pass" : "; it is not sent again"));
        if (waits) notebook.postpone(fresh, world.now().plus(delivery.again()));
        else notebook.drop(fresh);
        if (waits) resting.add(fresh.get(0).hook());
    }

    /** A hook may fail in any way it likes, closures of the rules among them; that is all that happens. */
    DeliveryResult attempt(Model.Hook hook, Model.Event event) {
        Future<DeliveryResult> sent = CompletableFuture.supplyAsync(() -> hook.sender().send(this, event), DaemonThreads::begin)
            .exceptionally(failed -> DeliveryResult.later(Text.plain(Text.thrown(failed.getCause()), 200)));
        return DaemonThreads.get(sent, PATIENCE.plusSeconds(1), DeliveryResult.later("no answer within " + Text.time(PATIENCE)));
    }

    /**
     * POSTs JSON. Only 2xx is taken; 4xx never is, so it is not repeated; no answer may have been taken, so it is.
     * {@code pushover}: a 200 may say no, and 429 is a quota that is used up for the month.
     */
    DeliveryResult post(String url, Map<?, ?> headers, Object json, boolean pushover) {
        Request.Builder request = new Request.Builder().url(url)
            .post(RequestBody.create(Json.text(json), MediaType.get("application/json")));
        headers.forEach((name, value) -> request.header(name.toString(), value.toString()));
        ExchangeTimer phases = new ExchangeTimer();
        try (okhttp3.Response response = web.call(request.build(), Deadline.in(PATIENCE), null, phases).execute()) {
            String body = response.peekBody(4096).string();
            String said = response.code() + " " + Text.plain(body, 120);
            boolean taken = !pushover || body.replace(" ", "").contains("\"status\":1");
            if (response.isSuccessful() && taken) return DeliveryResult.DONE;
            if (response.code() == 429 && !pushover) return new DeliveryResult(false, said, wait(response, body));
            return response.code() >= 500 || response.code() == 408 ? DeliveryResult.later(said) : DeliveryResult.refused(said);
        } catch (IOException | RuntimeException thrown) {
            return DeliveryResult.later(HttpClients.trouble(thrown, Text.host(url), PATIENCE, phases).troubleText());
        }
    }

    /** Seconds, in a header or, by Telegram and Discord, in the body; no longer than a message is news. */
    private static Duration wait(okhttp3.Response response, String body) {
        var found = Pattern.compile("\"retry_after\"\\s*:\\s*(\\d{1,6})").matcher(body);
        String seconds = response.header("Retry-After", found.find() ? found.group(1) : "60");
        long asked = seconds.matches("\\d{1,6}") ? Long.parseLong(seconds) : 60;
        return Duration.ofSeconds(Math.min(asked, EXPIRY.toSeconds()));
    }

    /** Pings a dead man's switch. That nobody hears it is for the switch to notice, and never fails a pass. */
    void heartbeat(String url) {
        Request ping = new Request.Builder().url(url).build();
        try (okhttp3.Response response = web.call(ping, Deadline.in(PATIENCE), null, EventListener.NONE).execute()) {
            if (!response.isSuccessful()) troubles.add("heartbeat: " + Text.host(url) + " answered " + response.code());
        } catch (IOException | RuntimeException thrown) {
            troubles.add("heartbeat: " + HttpClients.trouble(thrown, Text.host(url), PATIENCE, new ExchangeTimer()).troubleText());
        }
    }
}

/** What messages say: what, why, since when, what was done, how long it took. */
final class MessageText {
    static Model.Event about(Model.EventKind kind, WatchResult outcome, Incident incident, Instant now) {
        String name = outcome.watch.name();
        String is = switch (kind) {
            case down -> " is down";
            case healed, recovered -> " is healthy again";
            case gave_up -> " is down and is not restarted any more";
            default -> " is still down";
        };
        return new Model.Event(kind, name, name + is, text(kind, outcome, incident, now), now, incident.since());
    }

    private static String text(Model.EventKind kind, WatchResult outcome, Incident incident, Instant now) {
        String time = Text.time(Duration.between(WatchState.earlier(incident.since(), now), now));
        String why = outcome.verdict().reason() + ".", was = "It was down for " + time + ": " + incident.reason() + ".";
        String did = outcome.done.contains(" was not running") ? outcome.done : Text.upperFirst(outcome.done);
        String held = outcome.decision.why();
        String doubt = incident.suspicious() ? " The answer never changed, so perhaps the rule is wrong and not the "
            + "service. It begins: " + incident.excerpt() : "";
        return switch (kind) {
            case down -> why + (outcome.due() ? " Restarting it: " + outcome.remedy().inWords() + "."
                : held.isEmpty() ? "" : " Not restarted: " + held + ".");
            case healed -> (did.isEmpty() ? "A restart helped" : did) + ". " + was;
            case recovered -> "It recovered "
                + (incident.restarts() == 0 ? "by itself. " : "some time after its last restart. ") + was;
            case still_down -> did + (did.isEmpty() ? "" : ". ") + "It did not help: " + why + doubt;
            case gave_up -> Text.upperFirst(held) + "; it is tried again when the budget allows."
                + (incident.since().equals(now) ? "" : " Down for " + time + ": " + why) + doubt;
            default -> "Down for " + time + ": " + why;
        };
    }

    static Model.Event unwatched(String name, Incident incident, Instant now) {
        return new Model.Event(Model.EventKind.recovered, name, name + " is no longer watched",
            "It was removed from the rules while it was down: " + incident.reason() + ".", now, incident.since());
    }

    /** What waits for one hook becomes one message; of an incident that is over, only its end is told. */
    static Model.Event merged(List<Model.Event> events, Instant now) {
        Set<Model.EventKind> ends = EnumSet.of(Model.EventKind.healed, Model.EventKind.recovered);
        Function<Model.Event, String> story = e -> e.watch() + e.since();
        Set<String> over = events.stream().filter(e -> ends.contains(e.kind())).map(story).collect(Collectors.toSet());
        List<Model.Event> told = events.stream()
            .filter(e -> ends.contains(e.kind()) || !over.contains(story.apply(e))).toList();
        Model.Event first = told.get(0), last = told.get(told.size() - 1);
        boolean old = first.at().isBefore(now.minus(Duration.ofMinutes(10)));
        String text = told.stream().map(e -> (old ? Text.at(e.at()) + " " : "") + e.title() + ". " + e.text())
            .collect(Collectors.joining("\n"));
        if (told.size() == 1) text = last.text()
            + (old ? " (This was at " + Text.at(last.at()) + "; it could not be sent before.)" : "");
        String watches = told.stream().map(Model.Event::watch).distinct().collect(Collectors.joining(", "));
        return new Model.Event(last.kind(), watches, title(told), text, first.at(), first.since());
    }

    private static String title(List<Model.Event> told) {
        List<String> names = told.stream().map(Model.Event::watch).distinct().toList();
        List<String> are = told.stream().map(e -> e.title().substring(e.watch().length())).distinct().toList();
        if (names.size() == 1) return told.get(told.size() - 1).title();
        return are.size() > 1 ? told.size() + " messages about " + Text.list(names)
            : Text.list(names) + are.get(0).replaceFirst("^ is ", " are ");
    }
}

/** The services that take messages: where each wants them, in which shape, and how long they may be. */
final class HookProviders {
    static Sender of(String service, Map<String, ?> o) { return (by, event) -> send(service, o, by, event); }

    private static DeliveryResult send(String service, Map<String, ?> o, Notifier by, Model.Event event) {
        String title = Text.cut(event.title(), 250), all = event.title() + "\n" + event.text();
        boolean urgent = Integer.valueOf(2).equals(o.get("priority")); // Pushover insists on being told how to insist
        return switch (service) {
            case "pushover" -> by.post(url(o, "https://api.pushover.net") + "/1/messages.json", Map.of(), withoutNulls(
                "token", o.get("token"), "user", o.get("user"), "title", title, "message", Text.cut(event.text(), 1024),
                "timestamp", event.at().getEpochSecond(), "priority", o.get("priority"), "sound", o.get("sound"),
                "device", o.get("device"), "retry", urgent ? 60 : null, "expire", urgent ? 3600 : null), true);
            case "ntfy" -> by.post(url(o, "https://ntfy.sh") + "/",
                o.get("token") == null ? Map.of() : Map.of("Authorization", "Bearer " + o.get("token")),
                withoutNulls("topic", o.get("topic"), "title", title, "message", Text.cut(event.text(), 1300),
                    "priority", o.get("priority"), "tags", o.get("tags")), false);
            case "slack" -> by.post(url(o, ""), Map.of(), Map.of("text", Text.cut(all, 3000)
                .replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")), false);
            case "discord" -> by.post(url(o, ""), Map.of(),
                Map.of("content", Text.cut(all, 2000), "allowed_mentions", Map.of("parse", List.of())), false);
            case "telegram" -> by.post(url(o, "https://api.telegram.org") + "/bot" + o.get("token") + "/sendMessage",
                Map.of(), Map.of("chat_id", o.get("chat"), "text", Text.cut(all, 4096)), false);
            default -> throw new IllegalArgumentException(service);
        };
    }

    private static String url(Map<String, ?> o, String otherwise) {
        return (o.get("url") == null ? otherwise : o.get("url").toString()).replaceFirst("/+$", "");
    }

    static Map<String, Object> withoutNulls(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) if (pairs[i + 1] != null) map.put((String) pairs[i], pairs[i + 1]);
        return map;
    }

    static Sender webhook(String url, Map<?, ?> headers, Function<Model.Event, ?> json) {
        return (by, event) -> by.post(url, headers == null ? Map.of() : headers, json.apply(event), false);
    }

    static Sender block(Consumer<Model.Event> block) {
        return (by, event) -> {
            block.accept(event);
            return DeliveryResult.DONE;
        };
    }
}

/** The message as last argument, and all of it as variables: text from the network never meets a shell. */
record CommandSender(List<String> words) implements Sender {
    public DeliveryResult send(Notifier by, Model.Event event) {
        List<String> all = new ArrayList<>(words);
        all.add(Text.cut(event.title() + ": " + event.text(), 8000).replace("\0", ""));
        CommandResult ran = by.hands.run(all, Notifier.PATIENCE, Map.of("WATCHDOG_EVENT", event.kind().name(),
            "WATCHDOG_WATCH", event.watch(), "WATCHDOG_TITLE", event.title(),
            "WATCHDOG_TEXT", Text.cut(event.text(), 8000),
            "WATCHDOG_AT", event.at().toString(), "WATCHDOG_SINCE", event.since().toString()));
        return ran.exit() == 0 ? DeliveryResult.DONE : DeliveryResult.later("exit code " + ran.exit() + ran.lastWords());
    }
}

// === 8. The rules language ======================================================================
// rules.groovy is plain Groovy, statically compiled. Each block declares its words, so that a
// mistake anywhere is found when the file is loaded. The public methods below are the language;
// their comments are its reference.

/** The words of rules.groovy. Public, because a script lives in another class loader. */
interface Language {
    /** A parameter that is given by name, as in `limit 3, per: 1.hour`; null if it is not given. */
    @Retention(RetentionPolicy.RUNTIME) @Target(ElementType.PARAMETER)
    @interface Named { boolean required() default false; }

    /** The words at the top of the file. They can be used in every block. */
    abstract class RulesScript {
        RulesLoader loader;

        protected abstract Object run();

        /** A service to watch; its name is unique, on one line, up to 60 characters. */
        public void watch(String name, @DelegatesTo(value = WatchSpec.class,
                strategy = Closure.DELEGATE_FIRST) Closure<?> block) {
            WatchBuilder builder = new WatchBuilder(loader, name);
            Blocks.run(block, new WatchSpec(builder));
            loader.add(builder);
        }
        /** A hook for every watch. `on:` lists the kinds of event, default all; `orElse:` is a
         *  second hook for when this one fails. */
        public void notifying(Model.Hook hook, @Named List<?> on, @Named Model.Hook orElse) {
            loader.attach(loader.globalHooks, hook, on, orElse, "every watch");
        }
        public void notifying(@ClosureParams(value = SimpleType.class, options = "Model$Event")
                Closure<?> block, @Named List<?> on, @Named Model.Hook orElse) {
            notifying(loader.blockHook(block), on, orElse);
        }
        /** Folders to search for programs before PATH: absolute, or beginning with ~/. */
        public void path(String... folders) { loader.path(folders); }
        /** A URL to request at the end of each pass: a dead man's switch. */
        public void heartbeat(String url) { loader.heartbeat = loader.url("heartbeat", url); }
        /** How long a whole pass may take; default 4.minutes. */
        public void deadline(Duration time) { loader.deadline = loader.positive("deadline", time); }
        /** A remedy for several watches: `def tunnel = restart { … }`, then `restart tunnel`. */
        public Model.Remedy restart(@DelegatesTo(value = RemedySpec.class,
                strategy = Closure.DELEGATE_FIRST) Closure<?> steps) {
            return new Model.Remedy(null, loader.steps(steps));
        }
        /** A value from the environment, or else from the secrets file; it is never printed. */
        public String secret(String name) { return loader.secrets.get(name); }
        /** The name of this machine. */
        public String getHost() { return loader.host(); }

        /** pushover.net; both keys are on its dashboard; `priority:` -2 to 2. */
        public Model.Hook pushover(@Named(required = true) String token,
                @Named(required = true) String user, @Named Integer priority, @Named String sound,
                @Named String device, @Named String url) {
            return loader.hook("pushover", "token", token, "user", user, "priority", priority,
                "sound", sound, "device", device, "url", url);
        }
        /** ntfy.sh, or your own server with `url:`; `priority:` 1 to 5. */
        public Model.Hook ntfy(@Named(required = true) String topic, @Named String token,
                @Named Integer priority, @Named List<String> tags, @Named String url) {
            return loader.hook("ntfy", "topic", topic, "token", token, "priority", priority,
                "tags", tags, "url", url);
        }
        /** A Slack incoming webhook. */
        public Model.Hook slack(@Named(required = true) String url) {
            return loader.hook("slack", "url", url);
        }
        /** A Discord webhook. */
        public Model.Hook discord(@Named(required = true) String url) {
            return loader.hook("discord", "url", url);
        }
        /** A Telegram bot, and the chat that it writes to. */
        public Model.Hook telegram(@Named(required = true) String token,
                @Named(required = true) String chat, @Named String url) {
            return loader.hook("telegram", "token", token, "chat", chat, "url", url);
        }
        /** POSTs {kind, watch, title, text, at, since} as JSON. */
        public Model.Hook webhook(String url, @Named Map<String, String> headers) {
            return loader.webhook(url, headers, event -> event);
        }
        /** POSTs what the block returns: `webhook(url) { event -> [text: event.title] }`. */
        public Model.Hook webhook(String url, @ClosureParams(value = SimpleType.class,
                options = "Model$Event") Closure<?> json, @Named Map<String, String> headers) {
            return loader.webhook(url, headers, Blocks.keepValues(json)::call);
        }
        /** Runs a command with the message as last argument, and in WATCHDOG_* variables. */
        public Model.Hook commandHook(String command) { return loader.commandHook(command); }

        public Model.EventKind getDown() { return Model.EventKind.down; }
        public Model.EventKind getHealed() { return Model.EventKind.healed; }
        public Model.EventKind getStill_down() { return Model.EventKind.still_down; }
        public Model.EventKind getGave_up() { return Model.EventKind.gave_up; }
        public Model.EventKind getRecovered() { return Model.EventKind.recovered; }
        public Model.EventKind getReminder() { return Model.EventKind.reminder; }
        public Model.EventKind getRules_broken() { return Model.EventKind.rules_broken; }
    }

    /** The words of watch { }. */
    class WatchSpec {
        private final WatchBuilder watch;
        public final RedirectPolicy none = RedirectPolicy.none, any = RedirectPolicy.any,
            sameHost = RedirectPolicy.sameHost;

        WatchSpec(WatchBuilder watch) { this.watch = watch; }

        /** What to request; http or https. */
        public void url(String url) { watch.url(url); }
        /** A port that must accept a connection, as 'host:port'. */
        public void tcp(String address) { watch.tcp(address); }
        /** A command that must exit with 0. In healthy, status is its exit code and body its output. */
        public void command(String command) { watch.command(command); }
        /** The HTTP method; default GET, or POST with send. */
        public void method(String method) { watch.method = method; }
        /** A request header. */
        public void header(String name, String value) { watch.headers.put(name, value); }
        /** User and password for HTTP basic authentication. */
        public void basicAuth(String user, String password) { watch.basicAuth(user, password); }
        /** A bearer token. */
        public void bearer(String token) { header("Authorization", "Bearer " + token); }
        /** The body of the request; `type:` its media type, default application/json. */
        public void send(String body, @Named String type) {
            watch.body = body;
            if (type != null) watch.bodyType = type;
        }
        /** A PEM file with your own certificate authorities, trusted beside the system's. */
        public void trust(String file) { watch.trust = watch.loader.certificates(file); }
        /** none, sameHost (default) or any; a redirect from https to http is never followed. */
        public void followRedirects(RedirectPolicy policy) { watch.redirects = policy; }
        /** Conditions that must all be true, one a line; default `status in 200..299`. */
        public void healthy(@DelegatesTo(value = Conditions.class,
                strategy = Closure.DELEGATE_FIRST) Closure<?> conditions) {
            watch.healthy(new ConditionBlock(conditions, Conditions::new));
        }
        /** How long a check may take: DNS, connection, TLS and body; default 10.seconds. */
        public void timeout(Duration time) { watch.timeout = watch.positive("timeout", time); }
        /** How often to try before it counts as unhealthy, default 2; `every:` the pause between,
         *  default 2.seconds. */
        public void attempts(int number, @Named Duration every) {
            watch.attempts = watch.atLeastOne("attempts", number);
            if (every != null) watch.every = watch.positive("every", every);
        }
        /** Checks on fresh connections, default 1; `good:` how many must be healthy, default all. */
        public void samples(int number, @Named Integer good) {
            watch.samples = watch.atLeastOne("samples", number);
            watch.good = good == null ? number : watch.atLeastOne("good", good);
        }
        /** Unhealthy passes in a row before a restart and a message; default 1. */
        public void failures(int passes) { watch.failures = watch.atLeastOne("failures", passes); }
        /** Watches above this one; while one of them is unhealthy, this one is not judged. */
        public void needs(String... watches) { watch.needs(watches); }
        /** The remedy. Of several the next one is used when the last did not help. `when:` a block
         *  of conditions: this remedy is only for that cause, and comes before those without. */
        public void restart(@DelegatesTo(value = RemedySpec.class,
                strategy = Closure.DELEGATE_FIRST) Closure<?> steps,
                @Named @DelegatesTo(value = CauseConditions.class,
                    strategy = Closure.DELEGATE_FIRST) Closure<?> when) {
            restart(new Model.Remedy(null, watch.loader.steps(steps)), when);
        }
        /** A remedy that was made at the top of the file. */
        public void restart(Model.Remedy remedy, @Named @DelegatesTo(value = CauseConditions.class,
                strategy = Closure.DELEGATE_FIRST) Closure<?> when) {
            Expectation cause = when == null ? null : new ConditionBlock(when, CauseConditions::new);
            watch.remedies.add(new Model.Remedy(cause, remedy.steps()));
        }
        /** How long the service may take to be healthy after a restart; default 30.seconds. */
        public void within(Duration time) { watch.within = watch.positive("within", time); }
        /** The restart limit: default 3 in any `per:`, default 1.hour. */
        public void limit(int restarts, @Named Duration per) {
            watch.limit = watch.atLeastOne("limit", restarts);
            if (per != null) watch.per = watch.positive("per", per);
        }
        /** How often to report again that the service is still down; default never. */
        public void remind(Duration every) { watch.remind = watch.positive("remind", every); }
        /** A hook for this watch, with the same options as at the top of the file. */
        public void notifying(Model.Hook hook, @Named List<?> on, @Named Model.Hook orElse) {
            watch.loader.attach(watch.hooks, hook, on, orElse, watch.name);
        }
        public void notifying(@ClosureParams(value = SimpleType.class, options = "Model$Event")
                Closure<?> block, @Named List<?> on, @Named Model.Hook orElse) {
            notifying(watch.loader.blockHook(block), on, orElse);
        }
    }

    /** The words of healthy { }: what the service answered. */
    class Conditions {
        private final Response response;
        private final Map<String, Object> seen = new LinkedHashMap<>();

        Conditions(Response response) { this.response = response; }

        /** The HTTP status, such as 200; of a command its exit code. */
        public int getStatus() { return saw("status", response.status()); }
        /** The body as text, up to 1 MiB after decompression. */
        public String getBody() { return saw("body", response.body()); }
        /** A response header, or null. */
        public String header(String name) {
            return saw("header('" + name + "')", response.headers().get(name));
        }
        /** All response headers by lower-case name; of several with one name, the last. */
        public Map<String, String> getHeaders() {
            Map<String, String> headers = new TreeMap<>();
            response.headers().forEach(header ->
                headers.put(header.getFirst().toLowerCase(Locale.ROOT), header.getSecond()));
            return saw("headers", headers);
        }
        /** A value in a JSON body, by a path such as 'a.b[0].c' or 'list.size'; null if there is
         *  no such value, or the body is not JSON. */
        @SuppressWarnings("rawtypes")
        public Comparable json(String path) {
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
        String explain(String condition) {
            List<String> words = seen.keySet().stream()
                .filter(word -> condition.contains(word.split("\\(")[0])).toList();
            String expected = "expected " + condition;
            if (words.isEmpty() || words.equals(List.of("body"))) return expected + response.got();
            return expected + ", but " + Text.list(words.stream()
                .map(word -> word + " was " + Text.value(seen.get(word))).toList());
        }
    }

    /** The words of restart(when: { }): those of healthy, and why there is no response. */
    class CauseConditions extends Conditions {
        /** none if there was a response; otherwise one of the words below. */
        public final Model.Failure error;
        public final Model.Failure none = Model.Failure.none, refused = Model.Failure.refused,
            unknownHost = Model.Failure.unknownHost, unreachable = Model.Failure.unreachable,
            timeout = Model.Failure.timeout, tls = Model.Failure.tls, reset = Model.Failure.reset,
            closed = Model.Failure.closed;

        CauseConditions(Response response) {
            super(response);
            error = response.failure();
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

        /** Ends each process of this user that runs these words: SIGTERM, then SIGKILL after
         *  `grace:`, default 10.seconds. No such process is fine. */
        public void stop(String command, @Named Duration grace) {
            stop(ShellWords.split(command), grace);
        }
        public void stop(List<?> words, @Named Duration grace) {
            add(new StopStep(ShellWords.of(words), orSeconds(grace, 10)));
        }
        /** Starts a program that outlives the pass; `log:` a file for its output, default none. */
        public void start(String command, @Named String log) {
            start(ShellWords.split(command), log);
        }
        public void start(List<?> words, @Named String log) {
            add(new StartStep(ShellWords.of(words), log));
        }
        /** Runs a command to its end. It fails if the exit code is not 0, or if it takes longer
         *  than `timeout:`, default 1.minute. */
        public void running(String command, @Named Duration timeout) {
            running(ShellWords.split(command), timeout);
        }
        public void running(List<?> words, @Named Duration timeout) {
            add(new RunStep(ShellWords.of(words), orSeconds(timeout, 60)));
        }
        /** Like run, but by /bin/sh: for pipes and variables. */
        public void sh(String script, @Named Duration timeout) {
            running(List.of("/bin/sh", "-c", script), timeout);
        }
        /** Waits. Rarely needed: after the last step watchdog waits until the service is healthy. */
        public void pause(Duration time) { add(new PauseStep(time)); }
        /** Runs custom Groovy code as a step, when the others have run. */
        public void calling(Closure<?> code) { add(new CallStep(Blocks.keepValues(code)::call)); }

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

/** Runs the blocks of the rules. */
final class Blocks {
    /** Runs a block with the words of {@code spec}; the block itself does not change. */
    static void run(Closure<?> block, Object spec) {
        Closure<?> copy = block.rehydrate(spec, block.getOwner(), block.getThisObject());
        copy.setResolveStrategy(Closure.DELEGATE_FIRST);
        copy.call();
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
}

/** A block of conditions, as the rest of watchdog sees it. */
final class ConditionBlock implements Expectation {
    private final Closure<?> block;
    private final Function<Response, Language.Conditions> words;

    ConditionBlock(Closure<?> block, Function<Response, Language.Conditions> words) {
        this.block = Blocks.keepValues(block);
        this.words = words;
    }

    @Override public FailedCondition firstFailure(Response response) {
        Language.Conditions values = words.apply(response);
        try {
            Blocks.run(block, values);
            return null;
        } catch (AssertionError failed) {
            String reason = values.explain(Text.condition(failed));
            return new FailedCondition(reason, String.valueOf(failed.getMessage()));
        }
    }
}

/** A watch while its block runs; it has the defaults. */
final class WatchBuilder {
    final RulesLoader loader;
    final String name;
    final int line = RulesLoader.currentLine();
    final List<Model.Remedy> remedies = new ArrayList<>();
    final List<Model.Hook> hooks = new ArrayList<>();
    final Map<String, String> headers = new LinkedHashMap<>();
    String method, body, bodyType = "application/json";
    RedirectPolicy redirects = RedirectPolicy.sameHost;
    Path trust;
    Duration timeout = Duration.ofSeconds(10), every = Duration.ofSeconds(2),
        per = Duration.ofHours(1), within = Duration.ofSeconds(30), remind;
    int attempts = 2, samples = 1, good = 1, failures = 1, limit = 3;
    private final List<String> dependencies = new ArrayList<>();
    private String url, tcp;
    private List<String> command;
    private Expectation healthy;

    WatchBuilder(RulesLoader loader, String name) {
        this.loader = loader;
        this.name = name;
    }

    void url(String address) { url = setOnce("url", url, loader.url("url", address)); }
    void tcp(String address) { tcp = setOnce("tcp", tcp, address); }
    void command(String line) { command = setOnce("command", command, loader.words(line)); }
    void healthy(Expectation block) { healthy = setOnce("healthy", healthy, block); }
    Duration positive(String word, Duration time) { return loader.positive(word, time); }
    int atLeastOne(String word, int number) { return loader.atLeastOne(word, number); }

    private <T> T setOnce(String word, T before, T value) {
        refuse(before != null, "has two " + word + " lines; write one");
        return value;
    }

    void basicAuth(String user, String password) {
        String basic = Credentials.basic(user, password, StandardCharsets.UTF_8);
        loader.secrets.hide(basic);
        headers.put("Authorization", MissingSecretException.in(password) == null ? basic : password);
    }

    /** A watch can only depend on one above it, so there are no circles. */
    void needs(String... watches) {
        for (String dependency : watches) {
            if (!loader.isAbove(dependency)) loader.mistake("watch '" + name + "' needs '" + dependency
                + "', and no watch above it has that name" + loader.didYouMean(dependency));
            dependencies.add(dependency);
        }
    }

    /** Reports everything that is missing or contradictory, not only the first mistake. */
    Watch build() {
        long targets = Stream.of(url, tcp, command).filter(Objects::nonNull).count();
        boolean http = method != null || body != null || !headers.isEmpty() || trust != null;
        refuse(targets == 0, "checks nothing; add url, tcp or command");
        refuse(targets > 1, "has more than one of url, tcp and command; write one");
        refuse(url == null && http, "has no url, so method, header, send and trust mean nothing");
        refuse(name.isBlank() || !Text.plain(name, 60).equals(name),
            "needs a name of one line and at most 60 characters");
        refuse(good > samples, "has samples " + samples + ", good: " + good
            + "; good cannot be more than samples");
        return new Watch(name, probe(), healthy, List.copyOf(remedies), List.copyOf(dependencies),
            new CheckSettings(timeout, attempts, every, samples, good),
            new RestartPolicy(failures, limit, per, within, remind), loader.hooksFor(hooks));
    }

    private void refuse(boolean wrong, String why) {
        if (wrong) loader.mistakeAt(line, "watch '" + Text.plain(name, 60) + "' " + why);
    }

    private Probe probe() {
        String missing = MissingSecretException.in("" + url + headers.values() + body + command);
        if (missing != null) loader.reportMissing(line, missing, name + " is not checked");
        if (command != null) return new CommandProbe(command);
        if (tcp != null) return tcpProbe();
        String blanked = url == null ? "" : MissingSecretException.withPlaceholders(url);
        return HttpUrl.parse(blanked) == null ? null : httpProbe(blanked, missing);
    }

    private Probe httpProbe(String address, String missing) {
        String verb = method != null ? method.toUpperCase(Locale.ROOT) : body != null ? "POST" : "GET";
        boolean hasBody = body != null || Set.of("POST", "PUT", "PATCH").contains(verb);
        String text = MissingSecretException.withPlaceholders(body == null ? "" : body);
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        try {
            Request.Builder request = new Request.Builder().url(address);
            headers.forEach((name, value) ->
                request.header(name, MissingSecretException.withPlaceholders(value)));
            request.method(verb, hasBody ? RequestBody.create(bytes, MediaType.get(bodyType)) : null);
            return new HttpProbe(request.build(), redirects, trust, missing);
        } catch (IllegalArgumentException e) {
            refuse(true, "cannot be requested: " + Text.lowerFirst(Text.plain(e.getMessage(), 120)));
            return null;
        }
    }

    private Probe tcpProbe() {
        int colon = tcp.lastIndexOf(':');
        String port = tcp.substring(colon + 1);
        if (colon > 0 && port.matches("\\d{1,5}") && Integer.parseInt(port) <= 65535)
            return new TcpProbe(tcp.substring(0, colon), Integer.parseInt(port));
        refuse(true, "has tcp '" + tcp + "'; write host:port, for example 'localhost:32400'");
        return null;
    }
}

// === 9. Loading the rules =======================================================================
// Text -> compiled classes (kept for the next pass) -> the script runs -> Rules, or all mistakes.

/** What the rules say, without a mistake. A watch stands below those that it depends on. */
record Rules(List<Watch> watches, List<Model.Hook> hooks, String heartbeat, Duration deadline,
             List<String> path, List<String> warnings) {
    /** The watches with these names and, above each, those that it depends on. */
    List<Watch> select(List<String> names) {
        if (names == null || names.isEmpty()) return watches;
        for (String name : names) if (find(name) == null) throw unknown(name);
        Set<String> wanted = new HashSet<>(names);
        for (int i = watches.size() - 1; i >= 0; i--)
            if (wanted.contains(watches.get(i).name())) wanted.addAll(watches.get(i).dependencies());
        return watches.stream().filter(watch -> wanted.contains(watch.name())).toList();
    }

    Watch get(String name) {
        Watch found = find(name);
        if (found == null) throw unknown(name);
        return found;
    }

    private Watch find(String name) {
        return watches.stream().filter(watch -> watch.name().equals(name)).findFirst().orElse(null);
    }

    private ExitException unknown(String name) {
        List<String> known = new ArrayList<>(watches.stream().map(Watch::name).toList());
        known.addAll(watchdog.commands());
        return ExitException.mistake("watchdog: no watch and no command is called '" + name + "'"
            + Text.didYouMean(name, known)
            + (name.contains(".") ? "; a URL begins with https:// or http://" : ""));
    }
}

/** Loads a rules file, and collects what it says and all its mistakes. */
final class RulesLoader {
    static final String SCRIPT = "rules"; // a fixed class name: rules cannot shadow a class of ours
    private static final Duration MAX_LOADING = Duration.ofSeconds(10);
    final Secrets secrets;
    final List<Model.Hook> globalHooks = new ArrayList<>();
    String heartbeat;
    Duration deadline = Duration.ofMinutes(4);
    private final Path file;
    private final Environment environment;
    private final Mistakes mistakes;
    private final Map<String, WatchBuilder> watches = new LinkedHashMap<>();
    private final Map<String, Model.Hook> hooks = new LinkedHashMap<>();
    private final List<String> path = new ArrayList<>(), warnings = new ArrayList<>();
    private int blockHooks;

    private RulesLoader(Path file, String text, Environment environment, Secrets secrets) {
        this.file = file;
        this.environment = environment;
        this.secrets = secrets;
        mistakes = new Mistakes(file.getFileName().toString(), text, secrets);
    }

    static Path find(Path option, Environment environment) {
        if (option != null) return environment.cwd().resolve(option).normalize();
        Path here = environment.cwd().resolve("rules.groovy");
        if (Files.exists(here)) return here;
        Path config = environment.folder("XDG_CONFIG_HOME", ".config");
        Path home = config.resolve("watchdog/rules.groovy");
        return Files.exists(home) ? home : here;
    }

    /** Reads the bytes once, so that what was checked is what is compiled. */
    static String read(Path file) {
        if (!Files.exists(file)) throw ExitException.mistake("watchdog: there is no rules file "
            + file + "; write it, or name another with --rules FILE");
        if (!Files.isRegularFile(file))
            throw ExitException.mistake("watchdog: " + file + " is not a file");
        SecureFiles.onlyOursWrite(file);
        try {
            String text = Files.readString(file);
            return text.startsWith("\uFEFF") ? text.substring(1) : text;
        } catch (CharacterCodingException e) {
            throw ExitException.mistake("watchdog: " + file + " is not a text in UTF-8");
        } catch (IOException e) {
            throw ExitException.mistake("watchdog: cannot read " + file + ": " + Text.thrown(e));
        }
    }

    /** Uses the compiled classes of this very text, if there are any and they are intact. */
    static Rules load(Path file, String text, Environment environment, Secrets secrets,
                      CompiledRules compiled) {
        Class<?> cached = compiled.load(text);
        if (cached != null) {
            RulesLoader loader = new RulesLoader(file, text, environment, secrets);
            Throwable thrown = loader.run(cached);
            if (!(thrown instanceof LinkageError)) return loader.rules(thrown);
        }
        RulesLoader loader = new RulesLoader(file, text, environment, secrets);
        Path classes = compiled.newFolder();
        try {
            Rules rules = loader.rules(loader.run(
                RulesCompiler.compile(text, classes, loader.mistakes)));
            compiled.keep(text, classes);
            return rules;
        } finally {
            CompiledRules.delete(classes);
        }
    }

    /** Runs the script in its own thread, as it may loop or sleep for ever. Returns what it threw. */
    private Throwable run(Class<?> type) {
        Future<Throwable> run = DaemonThreads.run(() -> {
            try {
                var script = (Language.RulesScript) type.getDeclaredConstructor().newInstance();
                script.loader = this;
                script.run();
                return null;
            } catch (Throwable thrown) { // a script may throw anything
                return thrown;
            }
        });
        return DaemonThreads.get(run, MAX_LOADING, new TimeoutException());
    }

    private Rules rules(Throwable thrown) {
        if (thrown instanceof TimeoutException)
            throw ExitException.mistake(file.getFileName() + ": the rules were still running after "
                + Text.time(MAX_LOADING) + "; is there an endless loop?");
        if (thrown != null) mistakeAt(lineIn(thrown), describe(thrown));
        List<Watch> built = watches.values().stream().map(WatchBuilder::build).toList();
        if (built.isEmpty() && mistakes.isEmpty())
            mistakeAt(0, "there is no watch; write at least watch('name') { url 'https://…' }");
        mistakes.throwIfAny();
        return new Rules(built, List.copyOf(hooks.values()), heartbeat, deadline,
            List.copyOf(path), List.copyOf(warnings));
    }

    private static String describe(Throwable thrown) {
        if (thrown instanceof NullPointerException) return "a value here is null";
        if (thrown instanceof AssertionError failed)
            return "this is not true: " + Text.condition(failed);
        return Text.plain(Text.thrown(thrown), 200);
    }

    // -- called by the words of the rules

    void add(WatchBuilder watch) {
        WatchBuilder first = watches.putIfAbsent(watch.name, watch);
        if (first != null) mistakeAt(watch.line, "there are two watches with the name '" + watch.name
            + "'; the first is in line " + first.line);
    }

    boolean isAbove(String name) { return watches.containsKey(name); }
    String didYouMean(String name) { return Text.didYouMean(name, watches.keySet()); }

    List<Model.Hook> hooksFor(List<Model.Hook> own) {
        return Stream.concat(globalHooks.stream(), own.stream()).toList();
    }

    List<Step> steps(Closure<?> block) {
        Language.RemedySpec spec = new Language.RemedySpec();
        try {
            Blocks.run(block, spec);
        } catch (IllegalArgumentException wrong) {
            mistakeAt(lineIn(wrong), wrong.getMessage());
        }
        return List.copyOf(spec.steps);
    }

    Model.Hook hook(String service, Object... settings) {
        Map<String, Object> values = HookProviders.withoutNulls(settings);
        boolean hasUrl = values.get("url") instanceof String url
            && MissingSecretException.in(url) == null;
        if (hasUrl) url(service + "'s url", (String) values.get("url"));
        return hook(service, values, HookProviders.of(service, values));
    }

    Model.Hook webhook(String url, Map<String, String> headers, Function<Model.Event, ?> json) {
        url("webhook", url);
        Map<String, Object> settings = HookProviders.withoutNulls("url", url, "headers", headers);
        return hook("webhook", settings, HookProviders.webhook(url, headers, json));
    }

    Model.Hook commandHook(String command) {
        return hook("command", Map.of("command", command), new CommandSender(words(command)));
    }

    Model.Hook blockHook(Closure<?> block) {
        Consumer<Model.Event> consumer = Blocks.keepValues(block)::call;
        return hook("closure", Map.of("number", blockHooks++), HookProviders.block(consumer));
    }

    private static Model.Hook hook(String label, Map<String, ?> settings, Sender sender) {
        String id = label + "-" + Text.hash(new TreeMap<>(settings).toString()).substring(0, 8);
        String missing = MissingSecretException.in(settings.toString());
        return new Model.Hook(label, id, sender, EnumSet.allOf(Model.EventKind.class), null, missing);
    }

    /** A hook whose secret is missing is left out, and reported by each pass. */
    void attach(List<Model.Hook> hooksOfWatch, Model.Hook hook, List<?> on, Model.Hook orElse, String owner) {
        for (Model.Hook each : orElse == null ? List.of(hook) : List.of(hook, orElse))
            if (each.missing() != null) reportMissing(currentLine(), each.missing(),
                each.label() + " is not used for " + owner);
        if (hook.missing() != null) return;
        Set<Model.EventKind> kinds = EnumSet.of(Model.EventKind.test);
        kinds.addAll(on == null ? EnumSet.allOf(Model.EventKind.class) : kinds(on));
        Model.Hook attached = hook.with(kinds, orElse == null || orElse.missing() != null ? null : orElse);
        hooks.putIfAbsent(attached.id(), attached);
        hooksOfWatch.add(attached);
    }

    private Set<Model.EventKind> kinds(List<?> on) {
        Set<Model.EventKind> kinds = EnumSet.noneOf(Model.EventKind.class);
        for (Object kind : on) {
            if (kind instanceof Model.EventKind known) kinds.add(known);
            else mistake("on: needs kinds such as [healed, gave_up]; found " + Text.value(kind));
        }
        return kinds;
    }

    void path(String... folders) {
        for (String folder : folders) {
            String home = folder.startsWith("~/") ? environment.home() + folder.substring(1) : folder;
            if (home.startsWith("/") && !home.contains(":")) path.add(home);
            else mistake("path '" + folder + "' is not an absolute folder; write, for example, "
                + "'/opt/homebrew/bin' or '~/bin'");
        }
    }

    String url(String word, String url) {
        HttpUrl parsed = HttpUrl.parse(MissingSecretException.withPlaceholders(url));
        if (parsed != null) secrets.hide(parsed.password());
        else mistake(word + " '" + Text.plain(url, 80) + "' is not a URL; write, for example, "
            + "'https://plex.example.com/identity'");
        return url;
    }

    Duration positive(String word, Duration time) {
        if (time.isZero() || time.isNegative() || time.toDays() > 3650)
            mistake(word + " needs a duration above zero, for example 10.seconds");
        return time;
    }

    int atLeastOne(String word, int number) {
        if (number < 1 || number > 1000)
            mistake(word + " needs a whole number from 1 to 1000; found " + number);
        return number;
    }

    List<String> words(String command) {
        try {
            return ShellWords.split(command);
        } catch (IllegalArgumentException wrong) {
            mistake(wrong.getMessage());
            return List.of("?");
        }
    }

    Path certificates(String name) {
        Path pem = file.resolveSibling(name);
        try {
            HttpClients.trustManager(pem);
        } catch (IllegalArgumentException wrong) {
            mistake("trust: " + wrong.getMessage());
        }
        return pem;
    }

    String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "localhost";
        }
    }

    void reportMissing(int line, String secret, String effect) {
        warnings.add(file.getFileName() + ":" + line + ": the secret " + secret + " is missing, so "
            + effect + "; " + secrets.whereToPut(secret));
    }

    void mistake(String text) { mistakeAt(currentLine(), text); }
    void mistakeAt(int line, String text) { mistakes.add(line, 0, text); }

    /** The line of the rules that runs now. */
    static int currentLine() {
        return StackWalker.getInstance().walk(frames -> frames
            .filter(frame -> (SCRIPT + ".groovy").equals(frame.getFileName()))
            .mapToInt(StackWalker.StackFrame::getLineNumber).findFirst().orElse(0));
    }

    private static int lineIn(Throwable thrown) {
        return Arrays.stream(thrown.getStackTrace())
            .filter(frame -> (SCRIPT + ".groovy").equals(frame.getFileName()))
            .mapToInt(StackTraceElement::getLineNumber).findFirst().orElse(0);
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
    private final Secrets secrets;
    private final List<Mistake> found = new ArrayList<>();
    private final List<Runnable> later = new ArrayList<>();

    Mistakes(String fileName, String text, Secrets secrets) {
        this.fileName = fileName;
        this.lines = text.lines().toList();
        this.secrets = secrets;
    }

    void add(ASTNode node, String text) { add(node.getLineNumber(), node.getColumnNumber(), text); }

    /** Column 0: the whole line. Of several mistakes in one column the first is the cause. */
    void add(int line, int column, String text) {
        boolean known = found.stream().anyMatch(mistake -> mistake.line == line
            && mistake.column == column && (column > 0 || mistake.text.equals(text)));
        if (!known) found.add(new Mistake(line, column, text));
    }

    /** Added unless another mistake on that line explains it. */
    void addLater(ASTNode node, String text) { later.add(() -> { if (!isOnLine(node.getLineNumber())) add(node, text); }); }

    boolean isEmpty() { return found.isEmpty(); }
    boolean isOnLine(int line) { return found.stream().anyMatch(mistake -> mistake.line == line); }
    boolean isAtEnd(int line, int column) {
        return line > lines.size() || lines.get(line - 1).substring(column - 1).matches("[\\s})]*")
            && lines.subList(line, lines.size()).stream().allMatch(String::isBlank);
    }
    char charAt(int line, int column) { return (lines.get(line - 1) + " ").charAt(column - 1); }

    void throwIfAny() {
        later.forEach(Runnable::run);
        if (found.isEmpty()) return;
        found.sort(Comparator.comparingInt(Mistake::line).thenComparingInt(Mistake::column));
        throw ExitException.mistakes(found.stream().map(this::show).toList());
    }

    private String show(Mistake mistake) {
        String place = (mistake.line > 0 ? ":" + mistake.line : "")
            + (mistake.column > 0 ? ":" + mistake.column : "");
        String text = fileName + place + ": " + mistake.text;
        if (mistake.line < 1 || mistake.line > lines.size()) return secrets.mask(text);
        String line = lines.get(mistake.line - 1).replaceAll("\\p{Cntrl}", " ");
        String caret = mistake.column < 1 ? "" : "\n    "
            + " ".repeat(Math.min(mistake.column - 1, line.length())) + "^";
        return secrets.mask(text + "\n    " + line + caret);
    }
}

/** The compiled classes of the rules, in a folder with the text that they come from. */
final class CompiledRules {
    private final Path folder;

    /** Without a folder nothing is kept. */
    CompiledRules(Path folder) { this.folder = folder; }

    /** The class of the script, or null if it must be compiled (again). */
    Class<?> load(String text) {
        Path classes = folder == null ? null : folder.resolve(key(text));
        if (classes == null || !Files.isDirectory(classes)) return null;
        try (Stream<Path> files = Files.list(classes)) {
            ClassLoader loader = new URLClassLoader(new URL[] {classes.toUri().toURL()},
                CompiledRules.class.getClassLoader());
            // All at once, since a later pass may replace the folder while this one still runs.
            for (Path file : files.filter(path -> path.toString().endsWith(".class")).toList())
                loader.loadClass(file.getFileName().toString().replaceFirst("\\.class$", ""));
            return loader.loadClass(RulesLoader.SCRIPT);
        } catch (IOException | ClassNotFoundException | LinkageError damaged) {
            return null;
        }
    }

    /** A class file depends on the text, this build of watchdog and this build of Java. */
    private static String key(String text) {
        String build = watchdog.VERSION + Runtime.version();
        try {
            Path jar = Path.of(watchdog.class.getProtectionDomain().getCodeSource().getLocation()
                .toURI());
            build += jar + " " + Files.getLastModifiedTime(jar).toMillis();
        } catch (URISyntaxException | IOException e) {
            build += "unknown";
        }
        return Text.hash(text + build);
    }

    /** Where to compile to; null if nothing can be written: slower, but not wrong. */
    Path newFolder() {
        if (folder == null) return null;
        return SecureFiles.orElse(() ->
            Files.createTempDirectory(SecureFiles.folder(folder), "new-"), e -> null);
    }

    /** Replaces what was compiled before. */
    void keep(String text, Path classes) {
        if (classes == null) return;
        try {
            SecureFiles.write(classes.resolve("rules.groovy"), text);
            for (File old : folder.toFile().listFiles())
                if (!old.toPath().equals(classes)) delete(old.toPath());
            Files.move(classes, folder.resolve(key(text)), StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            return; // the next pass compiles again
        }
    }

    /** The text that was compiled last, for when an edit has mistakes; null if there is none. */
    String lastGood() {
        try (Stream<Path> folders = Files.list(folder)) {
            Path newest = folders.map(path -> path.resolve("rules.groovy")).filter(Files::exists)
                .max(Comparator.comparing(path -> path.toFile().lastModified())).orElse(folder);
            return Files.readString(newest);
        } catch (IOException none) {
            return null;
        }
    }

    static void delete(Path tree) {
        if (tree == null || !Files.exists(tree)) return;
        try (Stream<Path> files = Files.walk(tree)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        } catch (IOException | UncheckedIOException e) {
            return; // tried again after the next edit
        }
    }
}

// === 10. Compiling the rules ====================================================================
// Loaded only after an edit. DslTransformer adds what Groovy's syntax does not have; RulesChecker
// says mistakes in the words of the rules, from the syntax tree and its types.

/** The blocks of a rules file, and the words that each of them declares. */
enum Block {
    file("the file", Language.RulesScript.class), watch("watch", Language.WatchSpec.class),
    healthy("healthy", Language.Conditions.class), when("when", Language.CauseConditions.class),
    restart("restart", Language.RemedySpec.class), unknown("", Object.class);

    /** Groovy would find these words on Object or Closure first, so their methods are renamed. */
    static final Map<String, String> RENAMED = Map.of("run", "running", "notify", "notifying",
        "call", "calling", "command", "commandHook");
    final String title;
    private final Class<?> spec;

    Block(String title, Class<?> spec) {
        this.title = title;
        this.spec = spec;
    }

    String inBraces() { return this == file ? title : title + " { }"; }
    boolean hasConditions() { return this == healthy || this == when; }

    List<Method> methods() {
        return Arrays.stream(spec.getMethods())
            .filter(method -> method.getDeclaringClass().getEnclosingClass() == Language.class)
            .sorted(Comparator.comparingInt(Method::getParameterCount)).toList();
    }

    List<Method> methods(String word) {
        return methods().stream().filter(method -> wordOf(method).equals(word)).toList();
    }

    boolean declares(String word) { return !methods(word).isEmpty(); }

    /** This block, or else the file, or else null: which of the two declares a word. */
    Block owner(String word) { return declares(word) ? this : file.declares(word) ? file : null; }

    /** The words that can be used in this block, values such as `none` among them. */
    Set<String> words() {
        Stream<Method> methods = Stream.of(this, file).flatMap(block -> block.methods().stream());
        Stream<String> fields = Arrays.stream(spec.getFields()).map(Field::getName);
        return Stream.concat(methods.map(Block::wordOf), fields)
            .collect(Collectors.toCollection(TreeSet::new));
    }

    static String wordOf(Method method) {
        String name = method.getName();
        for (var renamed : RENAMED.entrySet()) if (renamed.getValue().equals(name)) return renamed.getKey();
        return name.matches("get[A-Z].*") ? Text.lowerFirst(name.substring(3)) : name;
    }

    static List<java.lang.reflect.Parameter> options(Method method) {
        return Arrays.stream(method.getParameters())
            .filter(parameter -> parameter.isAnnotationPresent(Language.Named.class)).toList();
    }
}

/** Text of the rules -> the class of the script, or all mistakes. */
final class RulesCompiler {
    private final Mistakes mistakes;

    private RulesCompiler(Mistakes mistakes) { this.mistakes = mistakes; }

    /** {@code folder}: where the classes are kept, or null. */
    static Class<?> compile(String text, Path folder, Mistakes mistakes) {
        CompilerConfiguration configuration = new CompilerConfiguration();
        configuration.setTolerance(1000);
        configuration.getOptimizationOptions().put(CompilerConfiguration.INVOKEDYNAMIC, false);
        configuration.addCompilationCustomizers(new DslTransformer(mistakes));
        if (folder != null) configuration.setTargetDirectory(folder.toFile());
        return new RulesCompiler(mistakes).compile(text, configuration);
    }

    private Class<?> compile(String text, CompilerConfiguration configuration) {
        ClassLoader ours = RulesCompiler.class.getClassLoader();
        Class<?> script = null;
        try {
            script = new GroovyClassLoader(ours, configuration)
                .parseClass(text, RulesLoader.SCRIPT + ".groovy");
        } catch (MultipleCompilationErrorsException e) {
            for (Object error : e.getErrorCollector().getErrors())
                if (error instanceof SyntaxErrorMessage message) addGroovyError(message.getCause());
            if (mistakes.isEmpty()) mistakes.add(0, 0, Text.plain(e.getMessage(), 200));
        } catch (RuntimeException | StackOverflowError | OutOfMemoryError e) {
            if (mistakes.isEmpty())
                mistakes.add(0, 0, "cannot be compiled: " + Text.plain(Text.thrown(e), 200));
        }
        mistakes.throwIfAny();
        return script;
    }

    /** Groovy's own errors; one on a line with a mistake of ours only follows from that. */
    private void addGroovyError(SyntaxException error) {
        int line = error.getStartLine(), column = error.getStartColumn();
        if (mistakes.isOnLine(line)) return;
        boolean typed = error.getMessage().startsWith("[Static type checking]");
        mistakes.add(line, column, typed ? Text.lowerFirst(Text.plain(
            error.getOriginalMessage().substring(25), 200)) : syntaxError(error, line, column));
    }

    private String syntaxError(SyntaxException error, int line, int column) {
        if (mistakes.isAtEnd(line, column)) return "a {, ( or quote before this is not closed";
        if ("'\"".indexOf(mistakes.charAt(line, column)) >= 0) return "this quote is not closed";
        return "this is not Groovy: " + Text.plain(Text.lowerFirst(error.getOriginalMessage()), 80);
    }

    /** Says mistakes in the words of the rules. Groovy makes it by its public constructor. */
    public static final class RulesChecker extends AbstractTypeCheckingExtension {
        private static final String UNTYPED = " (give the function types, so that it can be checked:"
            + " String name(String x) { … })";
        private static final String REPORTED = "reported";
        private static final Set<String> TEXT_METHODS = Arrays.stream(String.class.getMethods())
            .map(Method::getName).collect(Collectors.toSet());

        public RulesChecker(StaticTypeCheckingVisitor visitor) { super(visitor); }

        private void mistake(ASTNode node, String text) {
            Mistakes mistakes = context.getSource().getAST().getNodeMetaData(Mistakes.class);
            if (block() != Block.unknown) mistakes.add(node, text);
        }

        /** The innermost block of watchdog's around the code that is visited now. */
        private Block block() {
            return context.getEnclosingClosureStack().stream()
                .map(closure -> closure.getClosureExpression().<Block>getNodeMetaData(Block.class))
                .filter(Objects::nonNull).findFirst().orElse(Block.file);
        }

        @Override public List<MethodNode> handleMissingMethod(ClassNode receiver, String name,
                ArgumentListExpression arguments, ClassNode[] types, MethodCall call) {
            boolean ofWord = call instanceof MethodCallExpression method && method.isImplicitThis();
            String word = Block.RENAMED.containsValue(name) ? wordOf(name) : name;
            if (!ofWord) mistake((ASTNode) call, noSuchMethod(receiver, name, types));
            else if (block().owner(word) == null) mistake((ASTNode) call, unknownWord(word));
            else wrongArguments(word, arguments, types, (ASTNode) call);
            for (Expression argument : arguments) // a block of a wrong call cannot be judged
                if (argument instanceof ClosureExpression) argument.putNodeMetaData(Block.class, Block.unknown);
            ((ASTNode) call).putNodeMetaData(REPORTED, true);
            return List.of(newMethod(name, ClassHelper.dynamicType()));
        }

        private static String wordOf(String renamed) {
            return Block.RENAMED.entrySet().stream().filter(e -> e.getValue().equals(renamed))
                .findFirst().orElseThrow().getKey();
        }

        private static String noSuchMethod(ClassNode receiver, String name, ClassNode[] types) {
            boolean untyped = ClassHelper.isObjectType(receiver);
            String problem = TEXT_METHODS.contains(name)
                ? "'" + name + "' of " + typeName(receiver) + " does not take " + typeNames(types)
                : typeName(receiver) + " has no '" + name + "'"
                    + Text.didYouMean(name, TEXT_METHODS);
            return untyped ? typeName(receiver) + " has no '" + name + "'" + UNTYPED : problem;
        }

        /** At the option that has the wrong type, or else at the word. */
        private void wrongArguments(String word, ArgumentListExpression arguments,
                                    ClassNode[] types, ASTNode call) {
            if (anyReported(arguments.getExpressions())) return;
            List<Method> methods = block().owner(word).methods(word);
            var options = Block.options(methods.get(0));
            int values = types.length - options.size();
            for (int i = Math.max(0, values); i < types.length; i++) {
                ClassNode needed = ClassHelper.make(options.get(i - values).getType());
                if (isNull(arguments.getExpression(i)) || isAssignable(types[i], needed)) continue;
                mistake(arguments.getExpression(i), "the option '" + options.get(i - values).getName()
                    + "' needs " + typeName(needed) + "; found " + typeName(types[i]));
                return;
            }
            String needed = methods.stream().map(RulesChecker::signature).distinct()
                .collect(Collectors.joining(", or "));
            ClassNode[] found = Arrays.copyOf(types, Math.max(0, values));
            boolean untyped = Arrays.stream(found).anyMatch(ClassHelper::isObjectType);
            mistake(call, "'" + word + "' needs " + needed + "; found " + typeNames(found)
                + (untyped ? UNTYPED : ""));
        }

        private static boolean isNull(Expression e) {
            return e instanceof ConstantExpression constant && constant.isNullExpression();
        }

        private static boolean isAssignable(ClassNode type, ClassNode to) {
            return StaticTypeCheckingSupport.isAssignableTo(ClassHelper.getWrapper(type), to);
        }

        /** Whether a mistake in a value explains why its type does not fit. */
        private static boolean anyReported(List<Expression> values) {
            return values.stream().anyMatch(value -> value.getNodeMetaData(REPORTED) != null);
        }

        private static String signature(Method method) {
            List<String> values = Arrays.stream(method.getParameters())
                .filter(parameter -> !parameter.isAnnotationPresent(Language.Named.class))
                .map(parameter -> typeName(ClassHelper.make(parameter.getType()))).toList();
            return values.isEmpty() ? "options only" : Text.list(values);
        }

        @Override public boolean handleUnresolvedVariableExpression(VariableExpression variable) {
            String word = variable.getName();
            BinaryExpression around = context.getEnclosingBinaryExpression();
            boolean left = around != null && around.getLeftExpression() == variable;
            boolean list = left && around.getOperation().getType() == Types.LEFT_SQUARE_BRACKET;
            boolean known = block().words().contains(word);
            if (!known) mistake(variable, unknownVariable(word));
            else mistake(variable, list ? "a list needs parentheses here: " + word + "(['…', '…'])"
                : "'" + word + "' needs a value, for example: " + word + " …");
            variable.putNodeMetaData(REPORTED, true);
            makeDynamic(variable);
            return true;
        }

        private String unknownVariable(String word) {
            String problem = unknownWord(word);
            boolean clear = problem.contains("; did") || problem.contains("belongs");
            return clear ? problem : problem + "; if you meant a text, put it in quotes: '" + word + "'";
        }

        private String unknownWord(String word) {
            Block here = block();
            for (Block other : List.of(Block.watch, Block.healthy, Block.restart, Block.file))
                if (other.declares(word)) return belongs(word, other, here);
            return "no such word '" + word + "' in " + here.title + Text.didYouMean(word, here.words());
        }

        static String belongs(String word, Block there, Block here) {
            return "'" + word + "' belongs in " + there.inBraces() + ", not in " + here.inBraces();
        }

        @Override public boolean handleUnresolvedProperty(PropertyExpression property) {
            String name = property.getPropertyAsString();
            ClassNode type = getType(property.getObjectExpression());
            boolean number = ClassHelper.isNumberType(type) || ClassHelper.isBigDecimalType(type);
            boolean unit = DslTransformer.UNITS.containsKey(name);
            mistake(property, number && unit ? "'" + name + "' follows a plain number, as in 3." + name
                + "; for a variable write Duration.ofSeconds(…)"
                : typeName(type) + " has no '" + name + "'"
                    + (number ? Text.didYouMean(name, DslTransformer.UNITS.keySet()) : ""));
            property.putNodeMetaData(REPORTED, true);
            makeDynamic(property);
            return true;
        }

        /** `time < 3` calls compareTo with a value of another type. */
        @Override public void onMethodSelection(Expression expression, MethodNode target) {
            if (expression instanceof BinaryExpression comparison && target.getName().equals("compareTo")) {
                ClassNode left = getType(comparison.getLeftExpression());
                ClassNode right = getType(comparison.getRightExpression());
                if (!StaticTypeCheckingSupport.checkCompatibleAssignmentTypes(left, right))
                    mistake(comparison, typeName(left) + " cannot be compared with " + typeName(right));
            }
            boolean language = target.getDeclaringClass().getName().startsWith("Language$");
            boolean step = expression instanceof MethodCallExpression call
                && call.getMethod().getNodeMetaData(DslTransformer.STEP) != null;
            if (step && !language && expression.getNodeMetaData(REPORTED) == null)
                mistake(expression, "'" + target.getName() + "' is not a step; for custom Groovy write"
                    + " call { … }");
        }

        private static String typeNames(ClassNode[] types) {
            return types.length == 0 ? "nothing"
                : Text.list(Arrays.stream(types).map(RulesChecker::typeName).toList());
        }

        static String typeName(ClassNode type) {
            if (type.isArray()) return "texts";
            if (type instanceof LowestUpperBoundClassNode) return "a value of unknown type";
            return switch (type.getNameWithoutPackage().replaceFirst(".*\\$", "")) {
                case "String", "GString" -> "a text";
                case "int", "Integer", "long", "Long" -> "a whole number";
                case "BigDecimal", "double" -> "a number";
                case "Duration" -> "a duration such as 10.seconds";
                case "Closure" -> "a block { … }";
                case "List", "ArrayList" -> "a list";
                case "Map", "LinkedHashMap" -> "options";
                case "boolean", "Boolean" -> "true or false";
                case "Object" -> "a value of unknown type";
                case "Hook" -> "a hook such as pushover(…)";
                case "Remedy" -> "a remedy such as restart { … }";
                default -> "a " + type.getNameWithoutPackage();
            };
        }
    }
}

/**
 * Adds what Groovy's syntax does not have, before its type checker runs: a line of healthy { }
 * becomes an assert, 3.seconds a Duration, an option by name an argument by place. Notes which
 * block is which, and reports what would be valid Groovy but mean something else.
 */
final class DslTransformer extends CompilationCustomizer {
    static final String STEP = "step", PROBE = "probe";
    static final Map<String, Long> UNITS = new TreeMap<>();
    private static final Set<String> TEXT_WORDS = Set.of("body", "url", "protocol");
    private final Mistakes mistakes;

    static {
        Map.of("millisecond", ChronoUnit.MILLIS, "second", ChronoUnit.SECONDS, "minute",
            ChronoUnit.MINUTES, "hour", ChronoUnit.HOURS, "day", ChronoUnit.DAYS)
            .forEach((name, unit) -> {
                UNITS.put(name, unit.getDuration().toNanos());
                UNITS.put(name + "s", unit.getDuration().toNanos());
            });
    }

    DslTransformer(Mistakes mistakes) {
        super(CompilePhase.CONVERSION);
        this.mistakes = mistakes;
    }

    @Override public void call(SourceUnit source, GeneratorContext context, ClassNode type) {
        AnnotationNode compileStatic = new AnnotationNode(ClassHelper.make(CompileStatic.class));
        compileStatic.setMember("extensions",
            new ConstantExpression(RulesCompiler.RulesChecker.class.getName()));
        type.addAnnotation(compileStatic);
        source.getAST().putNodeMetaData(Mistakes.class, mistakes);
        if (type.isScript()) {
            type.setSuperClass(ClassHelper.make(Language.RulesScript.class));
            type.getDeclaredConstructors().clear();
            List.copyOf(type.getMethods("main")).forEach(type::removeMethod);
        }
        type.getMethods().forEach(DslTransformer::inferTextReturn);
        new BlockVisitor(source, type).visitClass(type);
    }

    /** `def name(…) { "…" }` returns a text; without this Groovy would call it an Object. */
    private static void inferTextReturn(MethodNode method) {
        if (!method.isDynamicReturnType() || !(method.getCode() instanceof BlockStatement body)) return;
        Statement last = body.isEmpty() ? body : body.getStatements().get(body.getStatements().size() - 1);
        Expression value = last instanceof ReturnStatement result ? result.getExpression()
            : last instanceof ExpressionStatement line ? line.getExpression() : null;
        boolean text = value instanceof ConstantExpression c && c.getValue() instanceof String;
        if (text || value instanceof GStringExpression) method.setReturnType(ClassHelper.STRING_TYPE);
    }

    private final class BlockVisitor extends ClassCodeExpressionTransformer {
        private final SourceUnit source;
        private final ClassNode type;
        private Block block = Block.file;

        BlockVisitor(SourceUnit source, ClassNode type) {
            this.source = source;
            this.type = type;
        }

        @Override protected SourceUnit getSourceUnit() { return source; }

        /** `url: 'x'` is a label to Groovy, and would silently do nothing. */
        @Override public void visitBlockStatement(BlockStatement code) {
            for (Statement line : code.getStatements()) {
                if (line.getStatementLabels() == null || line instanceof LoopingStatement) continue;
                String word = line.getStatementLabels().get(0);
                mistake(line, "write '" + word + "' without ':', for example: " + word + " …");
            }
            super.visitBlockStatement(code);
        }

        private void mistake(ASTNode node, String text) {
            if (block != Block.unknown) mistakes.add(node, text);
        }

        @Override public void visitExpressionStatement(ExpressionStatement line) {
            Method hook = line.getExpression() instanceof MethodCallExpression call
                && call.isImplicitThis() ? hookMethod(call) : null;
            if (hook != null) mistake(line, "a hook alone does nothing; write: notify "
                + Block.wordOf(hook) + "(…)");
            super.visitExpressionStatement(line);
        }

        private Method hookMethod(MethodCallExpression call) {
            if (call.getNodeMetaData(PROBE) != null) return null;
            return Block.file.methods(String.valueOf(call.getMethodAsString())).stream()
                .filter(method -> method.getReturnType() == Model.Hook.class).findFirst().orElse(null);
        }

        @Override public Expression transform(Expression e) {
            if (e instanceof PropertyExpression property && duration(property) != null)
                return duration(property);
            if (e instanceof ClosureExpression closure) return visitBlock(closure);
            if (e instanceof BinaryExpression binary) checkAssignment(binary);
            if (e instanceof MethodCallExpression call && call.isImplicitThis()) transformWord(call);
            return e == null ? null : super.transform(e);
        }

        private Expression duration(PropertyExpression e) {
            Long nanos = UNITS.get(String.valueOf(e.getPropertyAsString()));
            if (nanos == null || !(e.getObjectExpression() instanceof ConstantExpression c)
                || !(c.getValue() instanceof Number)) return null;
            BigDecimal exact = new BigDecimal(c.getValue().toString()).multiply(BigDecimal.valueOf(nanos));
            long bounded = exact.min(BigDecimal.valueOf(Long.MAX_VALUE)).longValue();
            Expression duration = new StaticMethodCallExpression(ClassHelper.make(Duration.class),
                "ofNanos", new ArgumentListExpression(new ConstantExpression(bounded, true)));
            duration.setSourcePosition(e);
            return duration;
        }

        private Expression visitBlock(ClosureExpression closure) {
            Block outer = block;
            Block own = closure.getNodeMetaData(Block.class);
            if (own != null) block = own;
            closure.getCode().visit(this);
            block = outer;
            return closure;
        }

        private void checkAssignment(BinaryExpression e) {
            if (!e.getOperation().getText().equals("=") || e instanceof DeclarationExpression
                || !(e.getLeftExpression() instanceof VariableExpression word)) return;
            String name = word.getName();
            if (block.declares(name)) mistake(word, block.hasConditions()
                ? "compare '" + name + "' with '==', not with '='"
                : "write '" + name + "' without '=', for example: " + name + " …");
        }

        private void transformWord(MethodCallExpression call) {
            String word = call.getMethodAsString();
            if (word == null || !(call.getArguments() instanceof TupleExpression tuple)) return;
            List<Expression> arguments = new ArrayList<>(tuple.getExpressions());
            boolean probe = call.getNodeMetaData(PROBE) != null;
            Block owner = word.equals("command") && !probe ? Block.file : block.owner(word);
            reportMisplaced(word, call, arguments.size());
            if (owner == null && type.getMethods(word).isEmpty()) nameBlocks(arguments, Block.unknown);
            if (owner == null) return;
            if (Set.of("watch", "healthy", "restart").contains(word))
                nameBlocks(arguments, Block.valueOf(word));
            if (word.equals("call")) nameBlocks(arguments, Block.file);
            call.setArguments(byPlace(owner.methods(word), arguments, call));
            if (Block.RENAMED.containsKey(word) && !probe)
                call.setMethod(new ConstantExpression(Block.RENAMED.get(word)));
        }

        private void nameBlocks(List<Expression> arguments, Block name) {
            for (Expression argument : arguments)
                if (argument instanceof ClosureExpression closure) nameBlock(closure, name);
        }

        private void nameBlock(ClosureExpression closure, Block name) {
            closure.putNodeMetaData(Block.class, name);
            if (!(closure.getCode() instanceof BlockStatement code)) return;
            if (name.hasConditions()) {
                if (code.getStatements().stream().allMatch(this::declares))
                    mistake(closure, "there is no condition in " + name.title
                        + " { }; write, for example, status == 200");
                replaceLines(code, line -> condition(line, name));
            }
            if (name == Block.restart) replaceLines(code, this::step);
            if (name == Block.watch) replaceLines(code, this::probe);
        }

        /** Every line of a block, also under if and for, with braces or without. */
        private Statement replaceLines(Statement code, Function<ExpressionStatement, Statement> change) {
            if (code instanceof BlockStatement lines)
                lines.getStatements().replaceAll(line -> replaceLines(line, change));
            if (code instanceof LoopingStatement loop)
                loop.setLoopBlock(replaceLines(loop.getLoopBlock(), change));
            if (code instanceof IfStatement choice) {
                choice.setIfBlock(replaceLines(choice.getIfBlock(), change));
                choice.setElseBlock(replaceLines(choice.getElseBlock(), change));
            }
            return code instanceof ExpressionStatement line && !declares(line) ? change.apply(line) : code;
        }

        private boolean declares(Statement line) {
            return line instanceof ExpressionStatement statement
                && statement.getExpression() instanceof DeclarationExpression;
        }

        private Statement condition(ExpressionStatement line, Block name) {
            Expression e = line.getExpression();
            if (e instanceof BinaryExpression b && b.getOperation().getText().equals("=")) return line;
            reportUselessCondition(e, name);
            BooleanExpression truth = new BooleanExpression(e);
            truth.setSourcePosition(e);
            AssertStatement condition = new AssertStatement(truth);
            condition.setSourcePosition(line);
            if (line.getStatementLabels() != null)
                line.getStatementLabels().forEach(condition::addStatementLabel);
            return condition;
        }

        private void reportUselessCondition(Expression e, Block name) {
            if (e instanceof ConstantExpression c && !(c.getValue() instanceof Boolean))
                mistake(e, "this is always true; write a comparison, for example status == 200");
            String text = e.getText();
            if (e instanceof VariableExpression && (TEXT_WORDS.contains(text) || text.equals("status")))
                mistake(e, compare(text, name));
            if (!(e instanceof BinaryExpression b && b.getRightExpression() instanceof ConstantExpression c))
                return;
            String word = b.getLeftExpression().getText();
            if (word.equals("status") && c.getValue() instanceof String quoted)
                mistake(c, "status is a whole number; write it without quotes: " + quoted);
            if (TEXT_WORDS.contains(word) && c.getValue() instanceof Number number)
                mistake(c, word + " is a text; write it in quotes: '" + number + "'");
        }

        private static String compare(String word, Block block) {
            return "compare '" + word + "' in " + block.inBraces() + ", for example: " + word + " == …";
        }

        /** A line of restart { } is a step or a loop; a counter is needed by some loops. */
        private Statement step(ExpressionStatement line) {
            Expression e = line.getExpression();
            boolean counter = e instanceof PostfixExpression || e instanceof PrefixExpression
                || e instanceof BinaryExpression b && b.getLeftExpression() instanceof VariableExpression
                    && b.getOperation().getText().matches("[-+*/]?=");
            boolean loop = e instanceof MethodCallExpression call && call.getArguments().getText()
                .contains("->");
            boolean word = e instanceof MethodCallExpression call && call.isImplicitThis();
            if (word) ((MethodCallExpression) e).getMethod().putNodeMetaData(STEP, true);
            if (!counter && !loop && !word) mistakes.addLater(e, "this line is not a step; for custom"
                + " Groovy write call { … }");
            return line;
        }

        /** `command` is a check as a line of watch { }, and a hook anywhere else. */
        private Statement probe(ExpressionStatement line) {
            if (line.getExpression() instanceof MethodCallExpression call && call.isImplicitThis()
                && "command".equals(call.getMethodAsString())) call.putNodeMetaData(PROBE, true);
            return line;
        }

        /** Rejects words of an enclosing block, such as url in restart { }; Groovy would find them. */
        private void reportMisplaced(String word, MethodCallExpression call, int arguments) {
            if (block == Block.file || block == Block.unknown) return;
            boolean known = block.declares(word);
            boolean reads = Set.of("header", "json").contains(word) && arguments == 1;
            if (known && block.hasConditions() && !reads) mistake(call, compare(word, block));
            boolean ofFile = Set.of("watch", "heartbeat", "deadline", "path").contains(word);
            boolean ofWatch = block != Block.watch && Block.watch.declares(word)
                && !word.equals("command");
            if (!known && (ofFile || ofWatch)) mistake(call, RulesCompiler.RulesChecker.belongs(word,
                ofFile ? Block.file : Block.watch, block));
        }

        /** Options become arguments by place, in the order of the word's declaration. */
        private ArgumentListExpression byPlace(List<Method> methods, List<Expression> arguments,
                                               MethodCallExpression call) {
            Map<String, Expression> options = new LinkedHashMap<>();
            ASTNode place = call;
            if (!arguments.isEmpty() && arguments.get(0) instanceof MapExpression map) {
                place = arguments.remove(0);
                for (MapEntryExpression entry : map.getMapEntryExpressions())
                    options.put(option(entry, methods, call), entry.getValueExpression());
            }
            for (var option : Block.options(methods.get(0))) {
                Expression value = options.remove(option.getName());
                boolean required = option.getAnnotation(Language.Named.class).required();
                if (value == null && required) mistake(place, "the option '" + option.getName()
                    + "' is missing; write " + option.getName() + ": …");
                arguments.add(value == null ? new ConstantExpression(null) : value);
            }
            return new ArgumentListExpression(arguments);
        }

        /** The name of an option; the conditions of `when:` become a block of their own. */
        private String option(MapEntryExpression entry, List<Method> methods, Expression call) {
            String name = entry.getKeyExpression().getText();
            List<String> known = Block.options(methods.get(0)).stream()
                .map(java.lang.reflect.Parameter::getName).toList();
            boolean cause = name.equals("when") && call.getText().contains("restart");
            if (cause && entry.getValueExpression() instanceof ClosureExpression closure) {
                nameBlock(closure, Block.when);
                if (!known.contains(name)) mistake(closure, "'when:' belongs to a restart in watch { },"
                    + " for example: restart(when: { … }, name)");
            } else if (!known.contains(name))
                mistake(entry, "no option '" + name + "' here" + Text.didYouMean(name, known));
            return name;
        }
    }
}

/** Values that must never be printed: from the environment, or else from the secrets file. */
final class Secrets {
    private final Map<String, String> env;
    private final Path file;
    private final Set<String> hidden = Collections.synchronizedSet(new TreeSet<>( // longest first
        Comparator.comparing(String::length).reversed().thenComparing(Comparator.naturalOrder())));
    private Map<String, String> fromFile;
    private String refused = "", badLine = "";

    Secrets(Map<String, String> env, Path rules) {
        this.env = env;
        String name = rules.getFileName().toString().replaceFirst("\\.groovy$", "");
        this.file = rules.resolveSibling(name + ".secrets");
    }

    /** The value, or a marker for a missing one, so that the rest of the rules still works. */
    String get(String name) {
        String value = env.getOrDefault(name, "");
        if (value.isEmpty()) value = file().getOrDefault(name, "");
        if (value.isEmpty()) return MissingSecretException.marker(name);
        hide(value);
        return value;
    }

    String whereToPut(String name) {
        if (!refused.isEmpty()) return refused;
        return badLine + "put " + name + "=… into " + file + " (chmod 600) or into the environment";
    }

    private Map<String, String> file() {
        if (fromFile != null) return fromFile;
        fromFile = new HashMap<>();
        if (!Files.exists(file)) return fromFile;
        try {
            String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
            if (mode.endsWith("------")) Files.readAllLines(file).forEach(this::readLine);
            else refused = "other users can read " + file + "; fix it with: chmod 600 '" + file + "'";
        } catch (IOException e) {
            refused = "cannot read " + file + ": " + Text.thrown(e);
        }
        return fromFile;
    }

    private void readLine(String line) {
        if (line.matches("\\s*(#.*)?")) return;
        if (!line.matches("\\s*\\w+\\s*=.*")) {
            badLine = "a line of " + file + " is not NAME=value; ";
            return;
        }
        int equals = line.indexOf('=');
        String value = line.substring(equals + 1).trim();
        boolean quoted = value.length() > 1 && value.matches("'.*'|\".*\"");
        fromFile.put(line.substring(0, equals).trim(),
            quoted ? value.substring(1, value.length() - 1) : value);
    }

    /** Hides a value, also as it stands in a URL and in JSON. */
    void hide(String value) {
        String json = JsonOutput.toJson(value);
        String encoded = URLEncoder.encode(value, StandardCharsets.UTF_8);
        String query = String.valueOf(HttpUrl.parse("http://x/?" + value));
        for (String form : List.of(value, json.substring(1, json.length() - 1), encoded,
                query.replaceFirst("http://x/\\??", "")))
            if (value.length() > 2 && form.length() > 2) hidden.add(form);
    }

    String mask(String text) {
        String masked = text;
        for (String value : hidden) {
            masked = masked.replace(value, "***");
            // A cut text may end in the beginning of a secret. JSON writes "…" as \u2026.
            for (String end : List.of("…", "\\u2026"))
                for (int cut = value.length() - 1; cut > 3 && masked.contains(end); cut--)
                    masked = masked.replace(value.substring(0, cut) + end, "***" + end);
        }
        return masked;
    }
}

/** Thrown where a value is needed that `secret` did not find. */
final class MissingSecretException extends RuntimeException {
    private static final Pattern MARKER = Pattern.compile("\uE000(\\w*)\uE001");

    MissingSecretException(String name) {
        super("the secret " + name + " is missing", null, false, false);
    }

    static String marker(String name) { return "\uE000" + name.replaceAll("\\W", "_") + "\uE001"; }

    /** The name of the first missing secret in a text, or null. */
    static String in(String text) {
        Matcher marker = MARKER.matcher(text);
        return marker.find() ? marker.group(1) : null;
    }

    static String withPlaceholders(String text) { return MARKER.matcher(text).replaceAll("missing"); }

    static void check(String text) {
        if (in(text) != null) throw new MissingSecretException(in(text));
    }
}

/** Command lines as lists of words. */
final class ShellWords {
    /** Splits as a shell would, but expands nothing. */
    static List<String> split(String command) {
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
        if (quote != 0) throw new IllegalArgumentException("the command \"" + Text.plain(command, 80)
            + "\" has a quote that is not closed");
        if (word != null) words.add(word.toString());
        return of(words);
    }

    /** The words of a list; they may be numbers, or texts with a $value. */
    static List<String> of(List<?> list) {
        List<String> words = list.stream().map(String::valueOf).toList();
        if (words.isEmpty() || words.get(0).isBlank()) throw new IllegalArgumentException(
            "a command is empty; write a program, for example 'cloudflared tunnel run'");
        return words;
    }
}

// === 9. Memory =======================================================================================================
// One folder per rules file, 0700. memory.json holds what each watch remembers and the messages on their way, so that
// both change in one atomic step; people can read it. history.jsonl has a line a pass; `lock` is the kernel's.

/** What passes remember. A file that cannot be read is set aside; both that and one that cannot be written are said. */
final class StateStore {
    private static final int FORMAT = 1, MOST_HISTORY = 2 << 20;

    /** The file. */
    private record StateFile(int format, String brokenRules, Map<String, WatchState> watches, List<OutboxEntry> outbox) { }

    private final Path folder;
    private final Environment world;
    private final Secrets secrets;
    private final boolean writable;
    private final Map<String, WatchState> memories = new TreeMap<>();
    private final List<OutboxEntry> outbox = new ArrayList<>();
    private final Set<String> warnings = new LinkedHashSet<>();
    private String brokenRules = "", written;

    StateStore(Path folder, boolean writable, Environment world, Secrets secrets) {
        this.folder = folder;
        this.writable = writable;
        this.world = world;
        this.secrets = secrets;
        Path file = latest();
        try {
            if (Files.exists(file, LinkOption.NOFOLLOW_LINKS)) read(file);
        } catch (IOException | RuntimeException | StackOverflowError broken) {
            setAside(file, broken);
        }
        written = text();
    }

    /** The memory, or the one under the temp folder if a full disk made that the newer one. */
    private Path latest() {
        Path file = folder.resolve("memory.json"), spare = SecureFiles.spare(folder).resolve("memory.json");
        boolean spared = file.toFile().exists() && spare.toFile().lastModified() > file.toFile().lastModified();
        return spared ? SecureFiles.orElse(() -> SecureFiles.spareFolder(folder).resolve("memory.json"), notOurs -> file) : file;
    }

    private void read(Path file) throws IOException {
        if (!Files.isRegularFile(file)) throw new IllegalStateException("it is no file"); // reading a pipe never ends
        Object json = new JsonSlurper().parseText(Files.readString(file));
        if (json instanceof Map<?, ?> map && map.get("format") instanceof Integer format && format > FORMAT)
            throw new IllegalStateException("it was written by a newer watchdog, in format " + format);
        StateFile page = (StateFile) Json.as(StateFile.class, json);
        if (page.watches.containsValue(null) || page.outbox.contains(null)) throw new IllegalArgumentException("null");
        brokenRules = page.brokenRules;
        memories.putAll(page.watches);
        outbox.addAll(page.outbox);
    }

    private void setAside(Path file, Throwable broken) {
        long one = world.now().getEpochSecond() % 3; // so at most three are kept
        Path aside = file.resolveSibling("memory.broken-" + one + ".json");
        boolean clear = broken instanceof FileSystemException || broken instanceof IllegalStateException;
        warnings.add("the memory could not be read ("
            + (clear ? Text.plain(Text.thrown(broken), 120) : "it is damaged") + "); "
            + (writable ? "it is kept as " + aside + " and a new one begins" : "the next pass begins a new one")
            + ", so restart budgets begin anew");
        if (writable) file.toFile().renameTo(aside.toFile());
    }

    Collection<String> warnings() { return warnings; }
    synchronized WatchState of(Watch watch) { return memories.getOrDefault(watch.name(), WatchState.NEW); }
    synchronized void put(Watch watch, WatchState memory) { memories.put(watch.name(), memory); }
    synchronized List<OutboxEntry> outbox() { return List.copyOf(outbox); }
    synchronized void drop(List<OutboxEntry> letters) { outbox.removeAll(letters); }
    synchronized void postpone(List<OutboxEntry> letters, Instant until) {
        outbox.replaceAll(letter -> letters.contains(letter) ? letter.later(until) : letter);
    }
    synchronized void post(OutboxEntry letter) {
        Model.Event e = letter.event();
        String title = secrets.mask(e.title()), text = secrets.mask(e.text());
        Model.Event masked = new Model.Event(e.kind(), e.watch(), title, text, e.at(), e.since());
        outbox.add(new OutboxEntry(masked, letter.hook(), letter.notBefore()));
    }

    /** What is no longer in the rules is forgotten; returns it as it was. */
    synchronized Map<String, WatchState> forget(Set<String> known) {
        Map<String, WatchState> gone = new TreeMap<>(memories);
        gone.keySet().removeAll(known);
        memories.keySet().retainAll(known);
        return gone;
    }

    /** True once for each text of the rules that does not compile; empty: they are good again. */
    synchronized boolean brokenRulesAreNew(String hash) {
        boolean news = !hash.equals(brokenRules);
        brokenRules = hash;
        return news && !hash.isEmpty();
    }

    /** Old or new, never torn; nothing is written when nothing has changed. On a full disk it is kept elsewhere. */
    synchronized void save() {
        String now = text();
        if (!writable || now.equals(written)) return;
        written = now;
        String text = secrets.mask(now);
        SecureFiles.orElse(() -> SecureFiles.write(folder.resolve("memory.json"), text), e -> warnings.add("the memory cannot be "
            + "written (" + Text.thrown(e) + "), so the restart budget may not hold; " + spare(text)));
    }

    private String spare(String text) {
        return SecureFiles.orElse(() -> {
            Path spare = SecureFiles.spareFolder(folder);
            SecureFiles.write(spare.resolve("memory.json"), text);
            return "meanwhile it is in " + spare;
        }, e -> "nor can another be written under the temp folder (" + Text.thrown(e) + ")");
    }

    /** A line for each watch and each message, for people; groovy-json's pretty printer would start all of Groovy. */
    private String text() {
        var watches = memories.entrySet().stream()
            .map(e -> "\n" + Json.text(e.getKey()) + ": " + Json.text(e.getValue()));
        var letters = outbox.stream().map(letter -> "\n" + Json.text(letter));
        return "{\"format\": " + FORMAT + ", \"brokenRules\": " + Json.text(brokenRules) + ", \"watches\": {"
            + watches.collect(Collectors.joining(",")) + "\n}, \"outbox\": ["
            + letters.collect(Collectors.joining(",")) + "\n]}\n";
    }

    /** Pauses are files of their own, so that `pause` need not wait for a pass. null: not paused. */
    Instant pausedUntil(String name) {
        try {
            Instant until = Instant.parse(Files.readString(fileOf("paused", name)));
            return until.isAfter(world.now()) ? until : null;
        } catch (IOException | DateTimeException notPaused) {
            return null;
        }
    }

    Path pause(String name, Instant until) throws IOException { return keep(fileOf("paused", name), until.toString()); }
    boolean resume(String name) throws IOException { return Files.deleteIfExists(fileOf("paused", name)); }

    /** What a service answered when it was found down, for whoever wants to know why; one file a watch. */
    void evidence(String name, Response is) {
        String text = is.url() + "\n" + is.status() + " " + is.troubleText() + "\n" + is.headers() + "\n"
            + Text.cut(is.body(), 1 << 16);
        if (writable) SecureFiles.orElse(() -> keep(fileOf("evidence", name + ".txt"), secrets.mask(text)),
            e -> warnings.add("the answer of " + name + " cannot be kept: " + Text.thrown(e)));
    }

    /** A file's name is 255 bytes at most, and a temporary one beside it has a longer one. */
    private Path fileOf(String kind, String name) {
        String safe = URLEncoder.encode(name, StandardCharsets.UTF_8);
        return folder.resolve(kind).resolve(safe.length() < 200 ? safe : Text.hash(name));
    }

    private static Path keep(Path file, String text) throws IOException {
        return SecureFiles.write(SecureFiles.folder(file.getParent()).resolve(file), text);
    }

    /** `{"t":1795334705,"plex":"h143"}`: the verdict's first letter and the milliseconds; two files of bounded size. */
    void history(Collection<WatchResult> outcomes) {
        Map<String, Object> line = new LinkedHashMap<>(Map.of("t", world.now().getEpochSecond()));
        for (WatchResult o : outcomes)
            line.put(o.watch.name(), o.verdict().word().charAt(0) + "" + o.look.answer().time().toMillis());
        Path file = folder.resolve("history.jsonl");
        try {
            if (file.toFile().length() > MOST_HISTORY)
                Files.move(file, folder.resolve("history.old.jsonl"), StandardCopyOption.REPLACE_EXISTING);
            if (!Files.exists(file)) Files.createFile(file, SecureFiles.OURS);
            Files.writeString(file, Json.text(line) + "\n", StandardOpenOption.APPEND);
        } catch (IOException e) {
            warnings.add("the history cannot be written: " + Text.thrown(e));
        }
    }

    /** The share of healthy looks in these last days, in per cent; null: there was none. */
    Double uptime(String name, int days) {
        long since = world.now().minus(Duration.ofDays(days)).getEpochSecond();
        String quoted = Pattern.quote(JsonOutput.toJson(name));
        Pattern look = Pattern.compile("\\{\"t\":(\\d{1,12}),.*" + quoted + ":\"([hu]).*");
        var healthy = Stream.of("history.old.jsonl", "history.jsonl").flatMap(this::lines).map(look::matcher)
            .filter(m -> m.matches() && Long.parseLong(m.group(1)) >= since)
            .mapToLong(m -> m.group(2).equals("h") ? 10_000 : 0).summaryStatistics();
        return healthy.getCount() == 0 ? null : healthy.getSum() / healthy.getCount() / 100.0;
    }

    private Stream<String> lines(String file) {
        Path ascii = folder.resolve(file); // so that a damaged byte is a damaged line and no more
        return SecureFiles.orElse(() -> Files.readAllLines(ascii, StandardCharsets.ISO_8859_1),
            none -> List.<String>of()).stream();
    }
}

/** Keeps what is ours from others, and whole. */
final class SecureFiles {
    static final FileAttribute<?> OURS = only("rw-------");
    private static final String ME = System.getProperty("user.name");

    private static FileAttribute<?> only(String mode) {
        return PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(mode));
    }

    /** The kernel's lock: gone with the process, however that ends. null: another pass has it. Opened only here. */
    static FileChannel lock(Path folder) throws IOException {
        var ways = Set.of(StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        FileChannel channel = FileChannel.open(folder.resolve("lock"), ways, OURS);
        if (channel.tryLock() != null) return channel;
        channel.close();
        return null;
    }

    /** Refuses a file that another user could write, or put another in its place: rules run with our rights. */
    static void onlyOursWrite(Path file) {
        try {
            for (Path at = file.toRealPath(); at != null; at = at.getParent()) {
                PosixFileAttributes is = Files.readAttributes(at, PosixFileAttributes.class);
                boolean sticky = is.isDirectory() && ((Integer) Files.getAttribute(at, "unix:mode") & 01000) != 0;
                String owner = is.owner().getName(), mode = PosixFilePermissions.toString(is.permissions());
                boolean privateGroup = is.group().getName().equals(owner); // which umask 002 takes for granted
                boolean open = mode.charAt(7) == 'w' || mode.charAt(4) == 'w' && !privateGroup;
                String fault = !List.of(ME, "root").contains(owner)
                    ? " belongs to " + owner + ", who could change the rules; chown " + ME + " it"
                    : open && !sticky ? " can be written by others; chmod go-w '" + at + "' mends that" : "";
                if (!fault.isEmpty()) throw ExitException.mistake("watchdog: " + at + fault);
            }
        } catch (IOException e) {
            throw ExitException.mistake("watchdog: cannot read the permissions of " + file + ": " + Text.thrown(e));
        }
    }

    /** Where memory goes when this folder cannot be written. */
    static Path spare(Path folder) {
        return Path.of(System.getProperty("java.io.tmpdir"), "watchdog-" + ME).resolve(folder.getFileName());
    }

    /** The same, made. Others may write to the temp folder, so the one between must be ours as well. */
    static Path spareFolder(Path folder) throws IOException {
        folder(spare(folder).getParent());
        return folder(spare(folder));
    }

    static Path folder(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) Files.createDirectories(folder, only("rwx------"));
        if (!Files.getOwner(folder).getName().equals(ME) || !Files.isWritable(folder))
            throw new IOException(folder + " is not ours to write");
        return Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwx------"));
    }

    static Path write(Path file, String text) throws IOException {
        return write(file, text.getBytes(StandardCharsets.UTF_8));
    }

    /** To a temporary file (0600), forced to disk, moved into place, and the move forced too. */
    static Path write(Path file, byte[] content) throws IOException {
        Path temporary = Files.createTempFile(file.getParent(), "." + file.getFileName(), ".tmp");
        try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE);
             FileChannel directory = FileChannel.open(file.getParent())) {
            channel.write(ByteBuffer.wrap(content));
            channel.force(true);
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
            directory.force(true);
            return file;
        } finally {
            temporary.toFile().delete(); // there is none once it is moved
        }
    }

    /** What a killed pass or an earlier text of the rules has left, in a folder and those in it. */
    static void sweep(Path folder, Predicate<String> leftOver) {
        try (Stream<Path> files = Files.walk(folder, 2)) {
            files.map(Path::toFile).filter(f -> f.isFile() && leftOver.test(f.getName())).forEach(File::delete);
        } catch (IOException anotherTime) {
            return;
        }
    }

    interface IOSupplier<T> { T done() throws IOException; }

    /** The result, or what is made of the failure, be it that the file system knows no modes. */
    static <T> T orElse(IOSupplier<T> deed, Function<Exception, T> otherwise) {
        try {
            return deed.done();
        } catch (IOException | UnsupportedOperationException e) {
            return otherwise.apply(e);
        }
    }
}

/** JSON from records and back, by the names and types of their components; and values out of other people's JSON. */
final class Json implements JsonGenerator.Converter {
    private static final JsonGenerator WRITER = new JsonGenerator.Options().addConverter(new Json()).build();

    static String text(Object value) { return WRITER.toJson(value); }

    @Override public boolean handles(Class<?> type) {
        return !CharSequence.class.isAssignableFrom(type) && !Number.class.isAssignableFrom(type)
            && !Map.class.isAssignableFrom(type) && !Collection.class.isAssignableFrom(type) && type != Boolean.class;
    }

    @Override public Object convert(Object value, String key) {
        if (!(value instanceof Record)) return value.toString();
        Map<String, Object> fields = new LinkedHashMap<>();
        try {
            for (RecordComponent part : value.getClass().getRecordComponents()) {
                part.getAccessor().setAccessible(true);
                fields.put(part.getName(), part.getAccessor().invoke(value));
            }
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
        fields.values().removeIf(Objects::isNull);
        return fields;
    }

    /** Throws a RuntimeException when the JSON is not of that type: at the latest, a record's constructor does. */
    static Object as(Type type, Object json) {
        if (type instanceof ParameterizedType generic) {
            Type of = generic.getActualTypeArguments()[generic.getActualTypeArguments().length - 1];
            if (json instanceof List<?> list) return list.stream().map(one -> as(of, one)).collect(Collectors.toList());
            Map<Object, Object> map = new LinkedHashMap<>((Map<?, ?>) json);
            map.replaceAll((key, one) -> as(of, one));
            return map;
        }
        Class<?> plain = (Class<?>) type;
        if (plain == Instant.class) return Instant.parse((String) json);
        if (plain.isEnum())
            return Stream.of(plain.getEnumConstants()).filter(e -> e.toString().equals(json)).findFirst().orElseThrow();
        return plain.isRecord() && json != null ? record(plain, (Map<?, ?>) json) : json;
    }

    private static Object record(Class<?> type, Map<?, ?> json) {
        List<RecordComponent> parts = List.of(type.getRecordComponents());
        try {
            var made = type.getDeclaredConstructor(parts.stream().map(RecordComponent::getType).toArray(Class[]::new));
            made.setAccessible(true);
            return made.newInstance(parts.stream().map(p -> as(p.getGenericType(), json.get(p.getName()))).toArray());
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** By a path such as a.b[0].c; null if there is nothing, or no JSON at all. */
    @SuppressWarnings("rawtypes")
    static Comparable at(String text, String path) {
        Object value;
        try {
            value = new JsonSlurper().parseText(text);
        } catch (RuntimeException noJson) {
            return null;
        }
        for (String key : path.split("[.\\[\\]]+")) value = child(value, key);
        return value == null || value instanceof Comparable ? (Comparable) value : JsonOutput.toJson(value);
    }

    private static Object child(Object value, String key) {
        if (key.isEmpty()) return value;
        if (value instanceof Map<?, ?> map) return map.get(key);
        if (!(value instanceof List<?> list)) return null;
        if (key.equals("size")) return list.size();
        return key.matches("\\d{1,9}") && Integer.parseInt(key) < list.size() ? list.get(Integer.parseInt(key)) : null;
    }
}

// === 10. Reporting ===================================================================================================
// The only section that prints, and the words in which watchdog speaks.

/** A command at work: finds the rules and the memory, does it, prints what came of it. */
final class Commands {
    private final HttpClients web = new HttpClients(); // first, since it takes the longest to be ready
    private final Environment world;
    private final watchdog options;
    private final Path file, folder;
    private final Secrets secrets;
    private boolean memoryLost;
    private Rules rules;
    private List<String> complaints;
    private String broken;
    private StateStore notebook;
    private CommandRunner hands;
    private Checker looker;
    private Notifier courier;

    Commands(Environment world, watchdog options) {
        this.world = world;
        this.options = options;
        this.file = RulesLoader.find(options.rules, world);
        this.secrets = new Secrets(world.env(), file);
        this.folder = folder();
    }

    /** The memory's folder; when it cannot be used, a private one under the temp directory. */
    private Path folder() {
        Path all = options.state != null ? world.cwd().resolve(options.state)
            : world.folder("XDG_STATE_HOME", ".local/state").resolve("watchdog");
        String name = file.getFileName().toString().replaceFirst("\\.groovy$", "");
        Path ours = all.resolve(name + "-" + Text.hash(file.toString()).substring(0, 8));
        return SecureFiles.orElse(() -> SecureFiles.folder(ours), unusable -> {
            memoryLost = true;
            warn("cannot use " + ours + " (" + Text.thrown(unusable) + "); this pass remembers under the "
                + "temp folder, so the restart budget may not hold");
            return need("there is no folder to remember in", () -> SecureFiles.spareFolder(ours));
        });
    }

    private static <T> T need(String failed, SecureFiles.IOSupplier<T> deed) {
        return SecureFiles.orElse(deed, e -> { throw ExitException.broken("watchdog: " + failed + ": " + Text.thrown(e)); });
    }

    /** With an edit that does not compile, the last good rules still watch. */
    private Rules open(boolean writable) {
        CompiledRules cache = new CompiledRules(folder.resolve("compiled"));
        String text = "";
        try {
            text = RulesLoader.read(file);
            Rules good = RulesLoader.load(file, text, world, secrets, cache);
            return open(good, "", good.warnings(), writable);
        } catch (ExitException mistakes) {
            String last = cache.lastGood();
            if (last == null || mistakes.exit != 2) throw mistakes;
            List<String> all = new ArrayList<>(mistakes.lines);
            all.add("watchdog: " + file.getFileName() + " has mistakes; using the last working rules");
            Rules good = RulesLoader.load(file, last, world, secrets, cache);
            return open(good, Text.hash(text), all, writable);
        }
    }

    private Rules open(Rules good, String hash, List<String> mistakes, boolean writable) {
        boolean full = folder.toFile().getUsableSpace() < 1 << 20; // what a command prints could not be kept
        Path scratch = full ? Path.of(System.getProperty("java.io.tmpdir")) : folder, here = file.getParent();
        rules = good;
        broken = hash;
        complaints = mistakes;
        notebook = new StateStore(folder, writable, world, secrets);
        hands = new CommandRunner(here, scratch, rules.path(), world.env(), Deadline.in(rules.deadline()), this::progress);
        looker = new Checker(hands, web);
        courier = new Notifier(notebook, rules.hooks(), world, web, hands);
        return rules;
    }

    int pass(List<String> names) {
        try (FileChannel lock = SecureFiles.lock(folder)) {
            if (lock == null) throw ExitException.busy(options.quiet ? "" : "watchdog: another pass is running");
            SecureFiles.sweep(folder, name -> name.endsWith(".tmp"));
            List<Watch> watches = open(!options.dryRun).select(names);
            return options.dryRun ? look(watches) : heal(watches);
        } catch (IOException e) {
            throw ExitException.broken("watchdog: cannot take the lock in " + folder + ": " + Text.thrown(e));
        }
    }

    private int heal(List<Watch> watches) {
        endAt(rules.deadline(), world);
        tellOfRules();
        Collection<WatchResult> outcomes = passOver(watches).run();
        notebook.history(outcomes);
        courier.send();
        if (rules.heartbeat() != null) courier.heartbeat(rules.heartbeat());
        List<String> untold = courier.finish();
        notebook.save();
        int exit = report(outcomes, memoryLost || !notebook.warnings().isEmpty());
        untold.forEach(this::warn);
        notebook.warnings().forEach(this::warn);
        return exit;
    }

    /** No child, response or script can hold the program past its deadline: this ends it from outside. */
    private static void endAt(Duration deadline, Environment world) {
        DaemonThreads.run(() -> {
            Thread.sleep(deadline.plusSeconds(20).toMillis());
            world.err().println("watchdog: the pass did not end at its deadline of " + Text.time(deadline)
                + " and was ended");
            world.halt().accept(4);
            return null;
        });
    }

    private void tellOfRules() {
        Instant now = world.now();
        if (notebook.brokenRulesAreNew(broken)) {
            String name = file.getFileName().toString(), first = complaints.get(0).lines().findFirst().orElse("");
            courier.post(new Model.Event(Model.EventKind.rules_broken, name, name + " has mistakes",
                "The last good rules still watch. " + Text.plain(first, 400), now, now), rules.hooks());
        }
        Set<String> known = rules.watches().stream().map(Watch::name).collect(Collectors.toSet());
        notebook.forget(known).forEach((name, memory) -> {
            if (memory.incident() != null) courier.post(MessageText.unwatched(name, memory.incident(), now), rules.hooks());
        });
    }

    private Pass passOver(List<Watch> watches) {
        return new Pass(watches, looker, hands, notebook, courier, world, this::progress);
    }

    private int look(List<Watch> watches) { return report(passOver(watches).judge(watches), false); }

    int check(List<String> names) { return look(open(false).select(names)); }

    int checkUrl(String url, List<String> conditions) {
        options.verbose = true;
        refuse(conditions.stream().anyMatch(String::isBlank), "a condition is empty; one is 'status == 200'");
        String quoted = "'" + url.replace("\\", "\\\\").replace("'", "\\'") + "'";
        String text = "watch(" + quoted + ") { url " + quoted + "; attempts 1; "
            + (conditions.isEmpty() ? "" : "healthy {\n" + String.join("\n", conditions) + "\n}") + "}";
        try {
            Rules one = RulesLoader.load(Path.of("condition"), text, world, secrets,
                new CompiledRules(folder.resolve("one-off")));
            return look(open(one, "", List.of(), false).watches());
        } catch (ExitException wrong) { // its first line is ours, not the user's
            Pattern place = Pattern.compile("^condition:(\\d+):(\\d+:)");
            throw ExitException.mistakes(wrong.lines.stream().map(line -> place.matcher(line).replaceFirst(at -> "condition "
                    + Math.min(conditions.size(), Integer.parseInt(at.group(1)) - 1) + ", column " + at.group(2)))
                .map(line -> line.replaceFirst("(?s)^condition:\\d+: (.*?)\n.*", "watchdog: $1"))
                .map(line -> line.replaceFirst("(?s)\n    }}\n.*", "")).toList());
        }
    }

    int validate() {
        rules = RulesLoader.load(file, RulesLoader.read(file), world, secrets, new CompiledRules(null));
        complaints = new ArrayList<>(rules.warnings());
        rules.watches().forEach(this::validate);
        complaints.forEach(this::complain);
        int exit = complaints.isEmpty() ? 0 : 2;
        List<String> names = rules.watches().stream().map(Watch::name).toList();
        if (options.json) say(Json.text(new Validated(names, complaints, exit)));
        else if (exit == 0) say(file.getFileName() + " is good: " + Text.count(names.size(), "watch", "watches"));
        return exit;
    }

    private record Validated(List<String> watches, List<String> complaints, int exit) { }

    private void detail(String text) { if (!options.json) say(text); }

    private void validate(Watch watch) {
        RestartPolicy policy = watch.policy();
        CheckSettings patience = watch.patience();
        String needs = watch.dependencies().isEmpty() ? "" : ", needs " + Text.list(watch.dependencies());
        detail(watch.name() + ": " + watch.probe().inWords() + needs + "; up to "
            + Text.count(patience.attempts(), "attempt") + " of " + Text.time(patience.timeout()));
        for (Model.Remedy remedy : watch.remedies()) {
            detail("    restart" + (remedy.when() == null ? "" : " for its cause") + ": " + remedy.inWords());
            String secret = MissingSecretException.in(remedy.inWords());
            if (secret != null) complaints.add(file.getFileName() + ": " + watch.name() + ": the secret " + secret
                + " is missing, so its restart would fail; " + secrets.whereToPut(secret));
            for (Step step : remedy.steps()) find(watch, step.inWords(), step.program());
        }
        if (watch.probe() instanceof CommandProbe probe) find(watch, probe.inWords(), probe.words());
        for (Model.Hook hook : watch.hooks())
            if (hook.sender() instanceof CommandSender command) find(watch, "notify command", command.words());
        if (!watch.remedies().isEmpty()) detail("    at most " + policy.limit() + " per " + Text.time(policy.per())
            + ", after " + Text.count(policy.failures(), "unhealthy pass", "unhealthy passes")
            + ", healthy within " + Text.time(policy.within()));
        String hooks = Text.list(watch.hooks().stream().map(Model.Hook::label).toList());
        detail("    tells " + (hooks.isEmpty() ? "no one" : hooks));
    }

    private static final Set<String> SHELL = Set.of("|", "||", "&&", "&", ">", ">>", "<", ";", "2>", "2>&1");

    /** On the PATH that cron has, not on the one of this terminal. */
    private void find(Watch watch, String what, List<String> words) {
        for (String sign : words)
            if (SHELL.contains(sign)) complaints.add(file.getFileName() + ": " + watch.name() + ", " + what
                + ": no shell runs here, so '" + sign + "' is a word for the program; for a shell write sh '…'");
        String path = Stream.concat(rules.path().stream(), Stream.of("/usr/bin:/bin")).collect(Collectors.joining(":"));
        try {
            if (!words.isEmpty()) CommandRunner.resolve(words.get(0), file.getParent(), path);
        } catch (StepFailedException no) {
            complaints.add(file.getFileName() + ": " + watch.name() + ", " + what + ": for cron, " + no.getMessage());
        }
    }

    /** What `status` says of one watch; its components are the fields of --json. */
    private record Status(String name, String state, Instant since, Instant pausedUntil, String reason,
                          RestartRecord lastRestart, int budgetLeft, int budget, Duration per, Map<String, Double> uptime) {
        String inWords() {
            String text = name + ": " + state + (pausedUntil != null ? " " + Text.until(pausedUntil)
                : since == null ? ", not looked at yet" : " since " + Text.at(since));
            if (reason != null) text += "\n    down: " + reason;
            if (lastRestart != null) text += "\n    last restart " + Text.at(lastRestart.at()) + ": "
                + lastRestart.what() + " (" + Objects.requireNonNullElse(lastRestart.result(), "cut off") + ")";
            if (per != null) text += "\n    restarts left: " + budgetLeft + " of " + budget + " per " + Text.time(per);
            return text + "\n    uptime: " + uptime.entrySet().stream().map(e -> (e.getValue() + " % in " + e.getKey())
                    .replace(".0 %", " %").replace("null %", "unknown")).collect(Collectors.joining(", "));
        }
    }

    int status(List<String> names) {
        List<Status> all = open(false).select(names).stream().map(this::status).toList();
        List<OutboxEntry> waiting = notebook.outbox();
        if (options.json) say(Json.text(Map.of("watches", all, "waiting", waiting.size())));
        else {
            all.forEach(one -> say(one.inWords()));
            waiting.forEach(letter -> say("waiting for " + Text.hook(letter.hook()) + " since "
                + Text.at(letter.event().at()) + ": " + letter.event().title()));
        }
        notebook.warnings().forEach(this::warn);
        complaints.forEach(this::complain);
        return 0;
    }

    private Status status(Watch watch) {
        String name = watch.name();
        WatchState memory = notebook.of(watch);
        Incident incident = memory.incident();
        RestartPolicy policy = watch.policy();
        Instant until = notebook.pausedUntil(name), since = memory == WatchState.NEW ? null : memory.since();
        Map<String, Double> uptime = new LinkedHashMap<>();
        for (int days : List.of(1, 7, 30)) uptime.put(days == 1 ? "24h" : days + "d", notebook.uptime(name, days));
        return new Status(name, until != null ? "paused" : memory.state(), since, until,
            incident == null ? null : incident.reason(), memory.lastRestart(),
            Math.max(0, policy.limit() - memory.spent(policy, world.now())), policy.limit(),
            watch.remedies().isEmpty() ? null : policy.per(), uptime);
    }

    int pause(String name, Duration time) {
        String known = open(false).get(name).name();
        Instant until = time == null ? Text.ALWAYS : world.now().plus(time);
        need("cannot remember the pause", () -> notebook.pause(known, until));
        say(name + " is paused " + Text.until(until) + "; `watchdog resume " + name + "` ends it");
        return 0;
    }

    int resume(String name) {
        String known = open(false).get(name).name();
        boolean was = need("cannot end the pause", () -> notebook.resume(known));
        say(name + (was ? " is watched again" : " was not paused"));
        return 0;
    }

    int tell(String name) {
        var own = name == null ? open(false).hooks() : open(false).get(name).hooks();
        List<Model.Hook> hooks = own.stream().flatMap(hook -> Stream.of(hook, hook.orElse()))
            .filter(Objects::nonNull).distinct().toList();
        Model.Event test = new Model.Event(Model.EventKind.test, name == null ? "watchdog" : name, "test from watchdog",
            "If you can read this, this hook works.", world.now(), world.now());
        int exit = complaints.isEmpty() ? 0 : 2;
        for (Model.Hook hook : hooks) {
            DeliveryResult delivery = courier.attempt(hook, test);
            say(hook.label() + ": " + delivery.text());
            if (!delivery.taken()) exit = ExitException.gravest(exit, 1);
        }
        if (hooks.isEmpty()) say("there is no hook to tell" + (name == null ? "" : " for " + name));
        complaints.forEach(this::complain);
        return exit;
    }

    int drill(String name, boolean yes) {
        Watch watch = open(false).get(name);
        List<Step> stops = watch.remedies().stream().flatMap(remedy -> remedy.steps().stream())
            .filter(StopStep.class::isInstance).distinct().toList();
        refuse(stops.isEmpty(), name + " has no stop in its restart, so a drill cannot stop it");
        refuse(notebook.pausedUntil(name) != null, name + " is paused, so nothing would heal it; "
            + "`watchdog resume " + name + "` first");
        String what = "This stops " + name + " on purpose: "
            + stops.stream().map(Step::inWords).collect(Collectors.joining(", ")) + ".";
        refuse(!yes && !world.terminal(), what + " Nobody can be asked here; --yes says that it is wanted");
        boolean wanted = yes || System.console().readLine(what + " Go on? [y/N] ").strip().matches("(?i)y.*");
        return !wanted ? 2 : drill(watch, stops) ? 0 : 1;
    }

    private boolean drill(Watch watch, List<Step> stops) {
        BooleanSupplier healthy = () -> looker.lookOnce(List.of(watch)).get(watch).verdict() instanceof Healthy;
        String name = watch.name();
        long began = System.nanoTime();
        refuse(!(looker.lookAtAll(List.of(watch)).get(watch).verdict() instanceof Healthy),
            name + " is not healthy now; a drill begins with a healthy service");
        timeline(began, name + " is healthy");
        RestartRun stopping = new RestartRun();
        try {
            stops.forEach(stop -> stop.take(hands, stopping));
        } catch (StepFailedException failed) {
            throw ExitException.mistake("watchdog: the drill could not stop " + name + ": " + failed.getMessage());
        }
        timeline(began, stopping.inWords());
        Deadline over = Deadline.in(watch.policy().within());
        while (healthy.getAsBoolean() && !over.passed()) over.sleep(Duration.ofMillis(200));
        timeline(began, over.passed() ? "the check did NOT notice: it still says healthy" : "the check noticed");
        if (over.passed()) return false;
        for (int pass = 0; pass < watch.policy().failures(); pass++) pass(List.of(name));
        boolean healed = healthy.getAsBoolean();
        timeline(began, name + (healed ? " is healthy again: the drill is passed"
            : " was NOT healed: the drill has failed"));
        return healed;
    }

    private static void refuse(boolean wrong, String why) { if (wrong) throw ExitException.mistake("watchdog: " + why); }

    private void timeline(long began, String what) {
        say(String.format(Locale.ROOT, "%7.1f s  %s", (System.nanoTime() - began) / 1e9, what));
    }

    /** What --json says of one watch; fields are only ever added. */
    private record Told(String name, String verdict, String reason, int status, long millis, Action did, boolean healed,
                        Map<String, Double> phases) {
        static Told of(WatchResult o) {
            Response answer = o.look.answer();
            Map<String, Double> phases = new LinkedHashMap<>();
            answer.phases().forEach((phase, took) -> phases.put(phase, took.toNanos() / 1e6));
            return new Told(o.watch.name(), o.verdict().word(), o.verdict().reason(), answer.status(),
                answer.time().toMillis(), o.due() ? Action.nothing : o.decision.act(), o.healed, phases);
        }
    }

    private record Report(List<Told> watches, int exit) { }

    private int report(Collection<WatchResult> outcomes, boolean unable) {
        int ours = unable ? 4 : complaints.isEmpty() ? 0 : 2;
        int exit = outcomes.stream().map(WatchResult::exit).reduce(ours, ExitException::gravest);
        int width = outcomes.stream().mapToInt(o -> o.watch.name().length()).max().orElse(1);
        if (options.json) say(Json.text(new Report(outcomes.stream().map(Told::of).toList(), exit)));
        else for (WatchResult o : outcomes) if (!options.quiet || o.exit() != 0 || o.healed) say(line(o, width));
        complaints.forEach(this::complain);
        return exit;
    }

    /** What, why with the values met, what was done, how long it took. */
    private String line(WatchResult o, int width) {
        String word = String.format("%-12s", o.healed ? "healed" : o.verdict().word());
        if (world.terminal() && world.env().getOrDefault("NO_COLOR", "").isEmpty())
            word = (o.exit() == 0 ? "\u001b[32m" : "\u001b[31m") + word + "\u001b[0m";
        String text = String.format("%-" + width + "s  %s ", o.watch.name(), word) + what(o);
        if (options.dryRun && o.due()) text += "; would restart: " + o.remedy().inWords();
        if (!options.verbose) return text;
        if (o.verdict() instanceof Unhealthy bad && bad.diagram() != null) text += "\n" + Text.diagram(bad.diagram());
        Map<String, Duration> phases = o.look.answer().phases();
        return phases.isEmpty() ? text : text + "\n    " + phases.entrySet().stream()
            .map(phase -> phase.getKey() + " " + Text.time(phase.getValue())).collect(Collectors.joining(", "));
    }

    private static String what(WatchResult o) {
        String reason = o.verdict().reason(), why = o.decision.why();
        if (o.healed) return "in " + Text.time(o.took) + ": it was " + o.was + "; " + o.done;
        if (!o.done.isEmpty()) {
            boolean useless = RestartRecord.USELESS.equals(o.decision.memory().lastRestart().result());
            return reason + "; " + o.done + (useless ? ", but it did not help in " : ", after ") + Text.time(o.took);
        }
        return reason + (o.verdict() instanceof Unhealthy && !o.due() && !why.isEmpty() ? "; " + why : "");
    }

    private void progress(String what) { if (options.verbose) say(what); }
    private void say(String text) { world.out().println(secrets.mask(text)); }
    private void complain(String text) { world.err().println(secrets.mask(text)); }
    private void warn(String text) { complain("watchdog: " + text); }
}

/** How watchdog speaks: times, lists, quotations; nothing from outside passes with control characters in it. */
final class Text {
    static final Instant ALWAYS = Instant.parse("9999-01-01T00:00:00Z");
    private static final DateTimeFormatter AT = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm");

    static String time(Duration time) {
        long millis = time.toMillis(), seconds = time.toSeconds(), hours = time.toHours();
        if (millis < 1000) return millis + " ms";
        if (millis < 10_000 && millis % 1000 >= 50) return String.format(Locale.ROOT, "%.1f s", millis / 1000.0);
        if (seconds < 120) return seconds + " s";
        if (seconds < 7200 && seconds % 3600 > 0) return time.toMinutes() + " min";
        if (hours >= 48) return time.toDays() + " days";
        return hours + " h" + (time.toMinutesPart() == 0 ? "" : " " + time.toMinutesPart() + " min");
    }

    static Duration parseDuration(String text) {
        var found = Pattern.compile("([1-9]\\d{0,5})\\s*([smhd])").matcher(text);
        if (!found.matches())
            throw new CommandLine.TypeConversionException("'" + text + "' is no time; write 30m, 2h or 1d");
        String unit = found.group(2).toUpperCase(Locale.ROOT);
        return Duration.parse((unit.equals("D") ? "P" : "PT") + found.group(1) + unit);
    }

    static String at(Instant time) { return AT.format(time.atZone(ZoneId.systemDefault())); }
    static String until(Instant time) { return "until " + (time.equals(ALWAYS) ? "it is resumed" : at(time)); }
    static String ago(Instant then, Instant now) {
        return time(Duration.between(WatchState.earlier(then, now), now)) + " ago";
    }

    /** One line without control, formatting or bidirectional characters, cut. */
    static String plain(String text, int most) {
        return cut(text == null ? "" : text.replaceAll("[\\p{Cntrl}\\p{Cf}\\s]+", " ").strip(), most);
    }

    static String cut(String text, int most) {
        if (text.length() <= most) return text;
        int kept = Math.min(text.codePointCount(0, text.length()), most - 1);
        return text.substring(0, text.offsetByCodePoints(0, kept)) + "…";
    }

    static String hash(String text) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256")
                .digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    static String value(Object value) {
        if (value instanceof Duration time) return time(time);
        return value instanceof String text ? "'" + plain(text, 60) + "'" : plain(String.valueOf(value), 60);
    }

    static String list(Collection<String> names) {
        List<String> all = List.copyOf(names);
        int last = all.size() - 1;
        return last < 1 ? String.join("", all) : String.join(", ", all.subList(0, last)) + " and " + all.get(last);
    }

    static String names(List<WatchResult> outcomes) { return list(outcomes.stream().map(o -> o.watch.name()).toList()); }
    static String count(int number, String one, String many) { return number + " " + (number == 1 ? one : many); }
    static String count(int number, String one) { return count(number, one, one + "s"); }

    /** Its label without the hash of its settings. */
    static String hook(String id) { return id.replaceFirst("-[0-9a-f]{8}$", ""); }

    static String command(List<String> words) {
        return words.stream().map(w -> w.matches("[\\w@%+=:,./~-]+") ? w : "\"" + plain(w, 200) + "\"")
            .collect(Collectors.joining(" "));
    }

    static String program(List<String> words) { return words.get(0).substring(words.get(0).lastIndexOf('/') + 1); }

    static String lastWords(String output) {
        String last = plain(output.substring(Math.max(0, output.length() - 300)), 300);
        return last.isEmpty() ? "" : ": " + (last.length() > 240 ? "…" + last.substring(last.length() - 239) : last);
    }

    static String thrown(Throwable thrown) {
        if (thrown instanceof UndeclaredThrowableException && thrown.getCause() != null)
            return thrown(thrown.getCause());
        String name = thrown.getClass().getSimpleName(), message = thrown.getMessage();
        if (thrown instanceof FileSystemException) return name.replace("Exception", "") + " " + message;
        if (message == null || message.isEmpty()) return name;
        return name.matches("IO.*|IllegalStateException|StepFailed") ? message : name + ": " + message;
    }

    static Stream<Throwable> causes(Throwable thrown) {
        return Stream.iterate(thrown, Objects::nonNull, Throwable::getCause).limit(10);
    }

    /** The condition that failed, out of Groovy's message: its first lines, up to the line of bars. */
    static String condition(AssertionError failed) {
        String all = String.valueOf(failed.getMessage()).lines().takeWhile(line -> !line.matches("[ |]+"))
            .map(String::strip).collect(Collectors.joining(" "));
        return plain(all.replaceFirst("^assert ", ""), 160);
    }

    /** Groovy's diagram of a failed condition; a body in it may be long. */
    static String diagram(String drawn) {
        return drawn.replaceAll("[\\p{Cntrl}\\p{Cf}&&[^\r\n]]", "?").lines().limit(14)
            .map(line -> "    " + cut(line.replaceFirst("^(assert|      ) ?", ""), 90))
            .collect(Collectors.joining("\n"));
    }

    static String url(String url) { return cut(url.replaceAll("://[^/@]*@", "://").replaceAll("\\?.*", "?…"), 120); }
    static String host(String url) { return HttpUrl.parse(url) == null ? "?" : HttpUrl.parse(url).host(); }
    static String upperFirst(String text) { return first(text, String::toUpperCase); }
    static String lowerFirst(String text) { return first(text, String::toLowerCase); }
    private static String first(String text, BiFunction<String, Locale, String> made) {
        int one = Math.min(1, text.length());
        return made.apply(text.substring(0, one), Locale.ROOT) + text.substring(one);
    }

    /** Groovy's distance counts 10 for a letter too many, missing or wrong, and 5 for two that changed places. */
    static String didYouMean(String word, Collection<String> known) {
        int most = word.isEmpty() ? 0 : 10 * Math.max(1, word.length() / 3);
        return known.stream().filter(k -> !k.isEmpty() && MethodRankHelper.delDistance(word, k) <= most)
            .min(Comparator.comparingInt(k -> MethodRankHelper.delDistance(word, k)))
            .map(near -> "; did you mean '" + near + "'?").orElse("");
    }
}
