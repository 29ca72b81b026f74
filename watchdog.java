///usr/bin/env jbang "$0" "$@" ; exit $?
// watchdog: one check-and-heal pass over the services that rules.groovy names. Cron is its clock.
// One file, in reading order: whoever stops after section 4 knows the whole tool.
// `grep -n '// ===' watchdog.java` prints its table of contents.
//JAVA 17+
//DEPS info.picocli:picocli:4.7.7
//DEPS org.apache.groovy:groovy:5.1.1
//DEPS org.apache.groovy:groovy-json:5.1.1
//DEPS com.squareup.okhttp3:okhttp-jvm:5.5.1
//CDS
//COMPILE_OPTIONS -encoding UTF-8 -XDstringConcat=inline
//RUNTIME_OPTIONS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xms24m -Xmn12m -Xmx256m -Xshare:auto -Xlog:disable -Xlog:all=error:stderr -Dfile.encoding=UTF-8

import groovy.json.JsonGenerator;
import groovy.json.JsonOutput;
import groovy.json.JsonSlurper;
import groovy.lang.*;
import groovy.transform.CompileStatic;
import groovy.transform.NamedParam;
import groovy.transform.NamedParams;
import groovy.transform.stc.POJO;
import groovyjarjarasm.asm.ClassReader;
import groovyjarjarasm.asm.ClassVisitor;
import groovyjarjarasm.asm.ClassWriter;
import groovyjarjarasm.asm.MethodVisitor;
import groovyjarjarasm.asm.Opcodes;
import groovyjarjarasm.asm.commons.ClassRemapper;
import groovyjarjarasm.asm.commons.SimpleRemapper;
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
import okhttp3.internal.http2.StreamResetException;
import org.codehaus.groovy.ast.*;
import org.codehaus.groovy.ast.expr.*;
import org.codehaus.groovy.ast.stmt.*;
import org.codehaus.groovy.classgen.GeneratorContext;
import org.codehaus.groovy.control.*;
import org.codehaus.groovy.control.customizers.CompilationCustomizer;
import org.codehaus.groovy.control.messages.ExceptionMessage;
import org.codehaus.groovy.control.messages.SyntaxErrorMessage;
import org.codehaus.groovy.runtime.FormatHelper;
import org.codehaus.groovy.runtime.MethodRankHelper;
import org.codehaus.groovy.runtime.ScriptBytecodeAdapter;
import org.codehaus.groovy.runtime.powerassert.AssertionRenderer;
import org.codehaus.groovy.runtime.powerassert.Value;
import org.codehaus.groovy.runtime.powerassert.ValueRecorder;
import org.codehaus.groovy.syntax.SyntaxException;
import org.codehaus.groovy.tools.GroovyClass;
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

    @Command(description = {
        "Write a small script for cron that starts this program by Java alone, without JBang's own start.",
        "It comes back to JBang when the script or a dependency changed or is gone."})
    int launcher(@Parameters(paramLabel = "FILE", description = "Where to write it.") Path file,
                 @Option(names = "--from", paramLabel = "REF", defaultValue = "watchdog@catalog",
                     description = "What JBang calls this program; default: ${DEFAULT-VALUE}.") String reference) {
        Path script = world.cwd().resolve(reference); // cron calls from elsewhere
        String from = Files.isRegularFile(script) ? script.toString() : reference;
        return session().launcher(world.cwd().resolve(file), from);
    }

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

/** One service under watch, as its rules describe it. */
record Watch(String name, Probe probe, Callable<?> healthy, List<Dsl.Remedy> remedies, List<String> needs,
             CheckSettings patience, RestartPolicy policy, List<Dsl.Hook> hooks) {
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
              Duration time, Map<String, Duration> phases, Dsl.Failure trouble, String troubleText) {
    static Response none(Dsl.Failure trouble, String text, Duration time, Map<String, Duration> phases) {
        return new Response(0, Headers.of(), "", "", "", null, time, phases, trouble, text);
    }

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
record Decision(Action act, String why, int remedy, List<Dsl.EventKind> tell, WatchState memory) {
    static Decision rest(Action act, String why, List<Dsl.EventKind> tell, WatchState memory) {
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
        return ours ? Decision.rest(Action.nothing, "", List.of(Dsl.EventKind.healed), next.restartEnded(RestartRecord.HELPED))
            : Decision.rest(Action.nothing, "", List.of(Dsl.EventKind.recovered), next);
    }
}

/** It does not. {@code remedies}: the remedies that fit the cause, as a ladder; empty with {@code whyNoRemedy} saying why. */
record Unhealthy(String reason, AssertionError failed, String excerpt, List<Integer> remedies, String whyNoRemedy)
        implements Verdict {
    Unhealthy with(String more) {
        return new Unhealthy(reason + more, failed, excerpt, remedies, whyNoRemedy);
    }

    Unhealthy with(List<Integer> fitting, String whyNone) {
        return new Unhealthy(reason, failed, excerpt, fitting, whyNone);
    }

    public Decision decide(RestartPolicy policy, WatchState memory, Instant now) {
        WatchState next = memory.until(now).becomes(word(), memory.failures() + 1, now);
        Incident open = next.incident();
        if (open == null && next.failures() < policy.failures())
            return Decision.rest(Action.held, "unhealthy in " + next.failures() + " of " + policy.failures()
                + " passes before a restart", List.of(), next);
        if (open == null)
            return act(policy, next.incident(new Incident(now, reason, excerpt, 0, 0, 0, false, false, now)), now,
                List.of(Dsl.EventKind.down));
        if (policy.remind() != null && !now.isBefore(open.lastTold().plus(policy.remind())))
            return act(policy, next.incident(open.told(false, now)), now, List.of(Dsl.EventKind.reminder));
        return act(policy, next, now, List.of());
    }

    private Decision act(RestartPolicy policy, WatchState next, Instant now, List<Dsl.EventKind> news) {
        RestartRecord last = next.lastRestart();
        List<Dsl.EventKind> tell = new ArrayList<>(news);
        if (remedies.isEmpty()) return Decision.rest(Action.held, whyNoRemedy, tell, next);
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
            return new Decision(Action.restarted, "", remedies.get(Math.min(open.rung(), remedies.size() - 1)), tell, next);
        if (!open.toldGivenUp()) {
            tell.remove(Dsl.EventKind.reminder);
            tell.add(Dsl.EventKind.gave_up);
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
        return Decision.rest(Action.restarted, "", open.toldStillDown() ? List.of() : List.of(Dsl.EventKind.still_down),
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
    Dsl.Remedy remedy() { return watch.remedies().get(decision.remedy()); }
    int exit() { return verdict().exit(); }
}

/** One look: the last answer that was met and what it means. */
record CheckResult(Response answer, Verdict verdict) {
    static CheckResult without(Verdict verdict) {
        return new CheckResult(Response.none(Dsl.Failure.none, "", Duration.ZERO, Map.of()), verdict);
    }
}

/** One check-and-heal pass over some watches, which stand in an order where each comes after what it needs. */
record Pass(List<Watch> watches, Checker looker, CommandRunner hands, StateStore notebook, Notifier courier, Environment world,
            Consumer<String> progress, Map<String, WatchResult> outcomes, Map<Callable<?>, RestartRun> treatments) {
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
        Map<Watch, CheckResult> looks = looker.checkAll(
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
        return watch.needs().stream().map(outcomes::get).filter(need -> need != null && need.exit() != 0)
            .findFirst().orElse(null);
    }

    /** What waits for a watch that has been healed in this pass is looked at in this pass, once. */
    private List<Watch> freed() {
        return watches.stream().filter(watch -> outcomes.get(watch.name()).decision.act() == Action.blocked
            && missing(watch) == null).toList();
    }

    private void heal(WatchResult first) {
        Dsl.Remedy remedy = first.remedy();
        List<WatchResult> patients = outcomes.values().stream()
            .filter(o -> o.due() && o.remedy().steps() == remedy.steps()).toList();
        long began = System.nanoTime();
        for (WatchResult o : patients)
            notebook.put(o.watch, notebook.of(o.watch).intends(remedy.inWords(), o.watch.policy(), world.now()));
        notebook.save();
        progress.accept(Text.names(patients) + ": unhealthy, restarting: " + remedy.inWords());
        RestartRun treatment = treatments.computeIfAbsent(remedy.steps(), hands::run);
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
            looker.checkOnce(sick).forEach((watch, look) -> {
                outcomes.get(watch.name()).look = look;
                outcomes.get(watch.name()).took = Duration.ofNanos(System.nanoTime() - began);
            });
            boolean healed = patients.stream().allMatch(o -> o.exit() == 0);
            if (healed || over.passed() || treatment.exitedEarly() != null) return;
            over.sleep(Duration.ofMillis(nap));
        }
    }

    private void concluded(WatchResult outcome, RestartRun treatment) {
        WatchState memory = notebook.of(outcome.watch);
        RestartPolicy policy = outcome.watch.policy();
        String died = treatment.exitedEarly();
        outcome.done = treatment.summary() + (died == null ? "" : "; " + died);
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
        if (decision.tell().contains(Dsl.EventKind.down)) notebook.evidence(outcome.watch.name(), outcome.look.answer());
        synchronized (notebook) { // a hook's thread may save in between
            Incident before = notebook.of(outcome.watch).incident(), after = decision.memory().incident();
            Incident about = after != null ? after : before;
            notebook.put(outcome.watch, decision.memory());
            for (Dsl.EventKind kind : decision.tell())
                courier.post(MessageText.about(kind, outcome, about, world.now()), outcome.watch.hooks());
        }
    }
}

// === 5. Checks ==================================================================================
// Each check opens a new connection. The watch's timeout limits its time; a body ends at 1 MiB.

/** What a watch checks: a URL, a port, or a command. */
sealed interface Probe permits HttpProbe, TcpProbe, CommandProbe {
    Response check(Checker checker, Duration timeout);
    String inWords();
}

/** Checks watches side by side. */
record Checker(CommandRunner runner, HttpClients http) {
    private static final int MAX_PARALLEL = 64;

    Map<Watch, CheckResult> checkAll(List<Watch> watches) { return parallel(watches, this::check); }

    /** Without further attempts, for a service that was just restarted. */
    Map<Watch, CheckResult> checkOnce(List<Watch> watches) {
        return parallel(watches, this::checkSamples);
    }

    private Map<Watch, CheckResult> parallel(List<Watch> all, Function<Watch, CheckResult> check) {
        ExecutorService pool = Executors.newFixedThreadPool(MAX_PARALLEL, DaemonThreads::thread);
        Map<Watch, Future<CheckResult>> running = new LinkedHashMap<>();
        for (Watch watch : all) running.put(watch, pool.submit(() -> check.apply(watch)));
        pool.shutdown();

        Map<Watch, CheckResult> results = new LinkedHashMap<>();
        running.forEach((watch, result) -> results.put(watch, await(result)));
        return results;
    }

    private CheckResult await(Future<CheckResult> result) {
        try {
            return DaemonThreads.get(result, runner.deadline().left(),
                inconclusive("the pass reached its deadline before this check ended"));
        } catch (RuntimeException thrown) { // a missing secret or a bug: no reason to restart
            return inconclusive("cannot be checked: " + Text.plain(Text.thrown(thrown), 200));
        }
    }

    private static CheckResult inconclusive(String why) {
        return CheckResult.without(new Inconclusive(why, false));
    }

    private CheckResult check(Watch watch) {
        CheckResult result = checkSamples(watch);
        for (int i = 1; i < watch.patience().attempts(); i++) {
            if (!(result.verdict() instanceof Unhealthy)) break;
            runner.deadline().sleep(watch.patience().every());
            result = checkSamples(watch);
        }
        return result;
    }

    /** Stops as soon as the outcome is certain. */
    private CheckResult checkSamples(Watch watch) {
        int samples = watch.patience().samples(), needed = watch.patience().good();
        for (int good = 0, bad = 0; ; ) {
            CheckResult result = checkWithTimeout(watch);
            if (result.verdict() instanceof Inconclusive) return result;
            if (result.verdict() instanceof Healthy && ++good >= needed) return result;
            if (result.verdict() instanceof Unhealthy last && ++bad > samples - needed) {
                String counts = " (" + bad + " of " + (bad + good) + " checks failed)";
                return new CheckResult(result.answer(), samples == 1 ? last : last.with(counts));
            }
        }
    }

    /** In threads of their own, so that a hanging DNS lookup or condition can be left behind. */
    private CheckResult checkWithTimeout(Watch watch) {
        Duration timeout =
            Collections.min(List.of(watch.patience().timeout(), runner.deadline().left()));
        String limit = Text.time(timeout);
        Response response = DaemonThreads.get(() -> watch.probe().check(this, timeout),
            timeout.plusMillis(500), // so that the probe itself can say where it hung
            Response.none(Dsl.Failure.timeout, "no response within " + limit, timeout, Map.of()));
        return new CheckResult(response, DaemonThreads.get(
            new ConditionEvaluator(watch, response)::verdict, timeout,
            new Inconclusive("the conditions took longer than " + limit, false)));
    }
}

/** Response -> verdict, by the conditions of the rules. */
record ConditionEvaluator(Watch watch, Response response) {
    Verdict verdict() {
        try {
            Unhealthy failure = firstFailure();
            return failure == null ? new Healthy(summary()) : withRemedies(failure);
        } catch (Throwable thrown) { // rules may throw anything, such as StackOverflowError
            return new Inconclusive("a condition could not be evaluated"
                + RulesLoader.lineOf(thrown) + ": " + Text.plain(Text.thrown(thrown), 200), false);
        }
    }

    private String summary() {
        String result = switch (response.protocol()) {
            case "tcp" -> "connected";
            case "command" -> "exit code " + response.status();
            default -> String.valueOf(response.status());
        };
        return result + " in " + Text.time(response.time());
    }

    /** Null: all conditions are true. */
    private Unhealthy firstFailure() throws Exception {
        int status = response.status();
        if (response.trouble() != Dsl.Failure.none) return failure(response.troubleText(), null);
        if (watch.healthy() != null) return evaluate(watch.healthy(), new Dsl.Conditions(response));
        boolean http = watch.probe() instanceof HttpProbe;
        if (http ? status / 100 == 2 : status == 0) return null;
        return failure(http ? "expected status in 200..299, but status was " + status
            : "expected exit code 0, but it was " + status + Text.lastWords(response.body()), null);
    }

    private Unhealthy failure(String reason, AssertionError failed) {
        return new Unhealthy(reason, failed, response.excerpt(), List.of(), "");
    }

    private Unhealthy evaluate(Callable<?> conditions, Dsl.Conditions words) throws Exception {
        try {
            Lean.apply(conditions, words);
            return null;
        } catch (AssertionError failed) {
            String condition = Text.condition(failed);
            return failure("expected " + condition + words.valuesIn(condition), failed);
        }
    }

    /** The remedy for this cause, or else those for any cause, to be tried in turn. */
    private Unhealthy withRemedies(Unhealthy failure) throws Exception {
        List<Integer> general = new ArrayList<>();
        for (int i = 0; i < watch.remedies().size(); i++) {
            Dsl.Remedy remedy = watch.remedies().get(i);
            List<Integer> usable = remedy.planned().isEmpty() ? List.of() : List.of(i);
            if (remedy.when() == null) general.addAll(usable);
            else if (evaluate(remedy.when(), new Dsl.CauseConditions(response)) == null)
                return failure.with(usable, "your rules say not to restart for this cause");
        }
        if (watch.remedies().isEmpty()) return failure;
        if (response.trouble() == Dsl.Failure.tls)
            return failure.with(List.of(), "a restart does not renew a certificate");
        return failure.with(general, "your rules have no restart for this cause");
    }
}

/** GET a URL, or the request that `method` and `send` describe. */
record HttpProbe(Request request, RedirectPolicy redirects, Path trust, String missingSecret)
        implements Probe {
    private static final int MAX_REDIRECTS = 10, MAX_BYTES = 1 << 20;

    public String inWords() { return request.method() + " " + Text.url(request.url().toString()); }

    public Response check(Checker checker, Duration timeout) {
        if (missingSecret != null) throw new MissingSecretException(missingSecret);
        Deadline deadline = Deadline.in(timeout);
        ExchangeTimer timer = new ExchangeTimer();
        try {
            Request next = request;
            for (int i = 0; i <= MAX_REDIRECTS; i++) {
                try (var response = checker.http().call(next, deadline, trust, timer).execute()) {
                    next = redirects.next(response);
                    if (next == null) return read(response, timer);
                }
            }
            return timer.failed(Dsl.Failure.closed, "more than " + MAX_REDIRECTS + " redirects");
        } catch (IOException | RuntimeException thrown) { // OkHttp throws both on bad responses
            return HttpClients.trouble(thrown, request.url().host(), timeout, timer);
        }
    }

    private static Response read(okhttp3.Response response, ExchangeTimer timer)
            throws IOException {
        MediaType type = response.body().contentType();
        Charset utf8 = StandardCharsets.UTF_8, charset = type == null ? utf8 : type.charset(utf8);
        String body = new String(response.peekBody(MAX_BYTES).bytes(), charset);
        String url = response.request().url().toString(), protocol = response.protocol().toString();
        X509Certificate certificate = response.handshake() == null ? null
            : (X509Certificate) response.handshake().peerCertificates().get(0);
        return new Response(response.code(), response.headers(), body, url, protocol, certificate,
            timer.time(), timer.phases, Dsl.Failure.none, "");
    }
}

/** Which redirects are followed: a login page on another host is no answer of the service. */
enum RedirectPolicy {
    none, sameHost, any;

    /** The next request; null: this response is the one to judge. */
    Request next(okhttp3.Response response) {
        String location = response.header("Location");
        if (this == none || location == null || !response.isRedirect()) return null;
        HttpUrl from = response.request().url(), to = from.resolve(location);
        if (to == null || from.isHttps() && !to.isHttps()) return null;
        if (to.host().equals(from.host())) return response.request().newBuilder().url(to).build();
        return this == any ? new Request.Builder().url(to).build() : null; // without credentials
    }
}

/** Healthy when the port accepts a connection. */
record TcpProbe(String host, int port) implements Probe {
    public String inWords() { return "connect to " + host + ":" + port; }

    public Response check(Checker checker, Duration timeout) {
        ExchangeTimer timer = new ExchangeTimer();
        try (Socket socket = new Socket(Proxy.NO_PROXY)) {
            socket.connect(new InetSocketAddress(host, port), (int) timeout.toMillis());
            return timer.ended(0, "", "tcp://" + host + ":" + port, "tcp");
        } catch (IOException thrown) {
            return HttpClients.trouble(thrown, host, timeout, timer);
        }
    }
}

/** Healthy when the command exits with 0; `status` is its exit code and `body` its output. */
record CommandProbe(List<String> words) implements Probe {
    public String inWords() { return "run " + Text.command(words); }

    public Response check(Checker checker, Duration timeout) {
        MissingSecretException.check(words.toString());
        ExchangeTimer timer = new ExchangeTimer();
        try {
            CommandResult result = checker.runner().run(words, timeout, Map.of());
            return timer.ended(result.exit(), result.output(), "", "command");
        } catch (StepFailedException failed) {
            boolean late = timer.time().compareTo(timeout) >= 0;
            Dsl.Failure failure = late ? Dsl.Failure.timeout : Dsl.Failure.closed;
            return timer.failed(failure, failed.getMessage());
        }
    }
}

/** Times a check and its phases, and knows the current phase. */
final class ExchangeTimer extends EventListener {
    private static final String CONNECT = "connecting", TLS = "in the TLS handshake",
        WAIT = "waiting for the response", READ = "reading the response";
    final Map<String, Duration> phases = Collections.synchronizedMap(new LinkedHashMap<>());
    private final long started = System.nanoTime();
    private volatile long phaseStarted = started;
    private volatile String phase = CONNECT;

    Duration time() { return Duration.ofNanos(System.nanoTime() - started); }
    boolean isConnecting() { return phase.equals(CONNECT); }
    String phase() { return " (" + phase + ")"; }

    Response ended(int status, String body, String url, String protocol) {
        return new Response(status, Headers.of(), body, url, protocol, null, time(), phases,
            Dsl.Failure.none, "");
    }

    Response failed(Dsl.Failure failure, String text) {
        return Response.none(failure, text, time(), phases);
    }

    private void begin(String next) {
        phase = next;
        phaseStarted = System.nanoTime();
    }

    private void end(String name, String next) {
        phases.merge(name, Duration.ofNanos(System.nanoTime() - phaseStarted), Duration::plus);
        begin(next);
    }

    @Override public void dnsStart(Call call, String host) { begin("resolving the name"); }
    @Override public void dnsEnd(Call call, String host, List<InetAddress> to) {
        end("dns", CONNECT);
    }
    @Override public void connectStart(Call call, InetSocketAddress to, Proxy via) {
        begin(CONNECT);
    }
    @Override public void secureConnectStart(Call call) { end("connect", TLS); }
    @Override public void connectEnd(Call call, InetSocketAddress to, Proxy via, Protocol name) {
        end(phase.equals(TLS) ? "tls" : "connect", WAIT);
    }
    @Override public void responseHeadersStart(Call call) { end("first byte", READ); }
    @Override public void responseBodyEnd(Call call, long bytes) { end("body", READ); }
}

/** The one place that talks HTTP: for checks, hooks and heartbeats. */
final class HttpClients {
    /** Loaded in the background from the start: it takes longer to load than all the rest. */
    private final CompletableFuture<OkHttpClient> client =
        CompletableFuture.supplyAsync(HttpClients::load, DaemonThreads::begin);
    private final Map<Path, OkHttpClient> clientsByTrust = new ConcurrentHashMap<>();

    private static OkHttpClient load() {
        // Under load OkHttp warns of leaked connections: harmless here, but cron would mail it.
        java.util.logging.Logger.getLogger("").setLevel(java.util.logging.Level.OFF);
        return new OkHttpClient.Builder().proxy(Proxy.NO_PROXY)
            .followRedirects(false).followSslRedirects(false).build();
    }

    /** Always opens a new connection, to prove that connecting works; limits the whole call. */
    Call call(Request request, Deadline deadline, Path trust, EventListener listener) {
        Duration limit = Collections.max(List.of(deadline.left(), Duration.ofMillis(1))); // 0: none
        Request named = request.header("User-Agent") != null ? request
            : request.newBuilder().header("User-Agent", "watchdog/" + watchdog.VERSION).build();
        return client(trust).newBuilder().eventListener(listener)
            .connectionPool(new ConnectionPool(0, 1, TimeUnit.MILLISECONDS)).callTimeout(limit)
            .connectTimeout(limit).readTimeout(limit).writeTimeout(limit).build().newCall(named);
    }

    private OkHttpClient client(Path trust) {
        return trust == null ? client.join()
            : clientsByTrust.computeIfAbsent(trust, this::trusting);
    }

    private OkHttpClient trusting(Path file) {
        X509TrustManager trust = trustManager(file);
        try {
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, new X509TrustManager[] {trust}, null);
            return client.join().newBuilder()
                .sslSocketFactory(context.getSocketFactory(), trust).build();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The system's certificate authorities and those of a file; verification is never off. */
    static X509TrustManager trustManager(Path file) {
        try (var in = Files.newInputStream(file)) {
            var all = new ArrayList<Certificate>(
                CertificateFactory.getInstance("X.509").generateCertificates(in));
            if (all.isEmpty()) throw new CertificateException("no certificate in it");
            all.addAll(List.of(managerOf(null).getAcceptedIssuers()));
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null, null);
            for (Certificate each : all) store.setCertificateEntry("ca" + store.size(), each);
            return managerOf(store);
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalArgumentException(
                "cannot read certificates from " + file + ": " + Text.thrown(e));
        }
    }

    private static X509TrustManager managerOf(KeyStore store) throws GeneralSecurityException {
        var factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        return (X509TrustManager) factory.getTrustManagers()[0];
    }

    /** An exception as a word for rules and a sentence for people. TLS exceptions wrap others. */
    static Response trouble(Throwable thrown, String host, Duration timeout, ExchangeTimer timer) {
        if (thrown instanceof UnknownHostException)
            return timer.failed(Dsl.Failure.unknownHost, host + " does not resolve");
        if (thrown instanceof InterruptedIOException)
            return timer.failed(Dsl.Failure.timeout,
                "no response within " + Text.time(timeout) + timer.phase());
        if (thrown instanceof ConnectException)
            return timer.failed(Dsl.Failure.refused, "connection refused by " + host);
        if (thrown instanceof SocketException && timer.isConnecting())
            return timer.failed(Dsl.Failure.unreachable, host + " is unreachable");
        String certificate = certificateTrouble(thrown, host);
        if (certificate != null) return timer.failed(Dsl.Failure.tls, certificate);
        if (thrown instanceof SocketException || thrown instanceof StreamResetException)
            return timer.failed(Dsl.Failure.reset, "the connection was reset" + timer.phase());
        if (Text.causes(thrown).anyMatch(EOFException.class::isInstance))
            return timer.failed(Dsl.Failure.closed, "the connection was closed" + timer.phase());
        return timer.failed(Dsl.Failure.closed,
            (thrown instanceof SSLHandshakeException ? "TLS failed: " : "unreadable response: ")
            + Text.plain(thrown.getMessage(), 120));
    }

    /** Null: the certificate is not the cause. */
    private static String certificateTrouble(Throwable thrown, String host) {
        Predicate<Class<?>> causedBy = type -> Text.causes(thrown).anyMatch(type::isInstance);
        String certificate = "the certificate of " + host;
        if (thrown instanceof SSLPeerUnverifiedException)
            return "the certificate is not for " + host;
        if (causedBy.test(CertificateExpiredException.class)) return certificate + " has expired";
        if (causedBy.test(CertificateNotYetValidException.class))
            return certificate + " is not valid yet; check the clock of this machine";
        return !causedBy.test(CertificateException.class) ? null : certificate
            + " is not trusted; if you trust its authority, add: trust 'ca.pem'";
    }
}

// === 6. Restarts and processes ==================================================================
// The only section that runs processes. A command is a list of words; only `sh` starts a shell.

/** A step of a remedy, as data: `validate` and --dry-run print what a pass would run. */
sealed interface Step permits StopStep, StartStep, RunStep, PauseStep, OwnStep {
    String inWords();
    void run(CommandRunner runner, RestartRun run);
    default List<String> program() { return List.of(); }
}

record StopStep(List<String> words, Duration grace) implements Step {
    public String inWords() { return "stop '" + Text.command(words) + "'"; }
    public void run(CommandRunner runner, RestartRun run) {
        run.record(new ProcessStopper(runner, words).stop(grace));
    }

    static void refuseTooShort(List<String> words) {
        String command = Text.command(words);
        if (command.length() < 3) throw new StepFailedException(
            "stop '" + command + "' is too short to be safe; write at least 3 characters");
    }
}

record StartStep(List<String> words, String log) implements Step {
    public String inWords() { return "start '" + Text.command(words) + "'"; }
    public List<String> program() { return words; }
    public void run(CommandRunner runner, RestartRun run) { run.record(runner.start(words, log)); }
}

record RunStep(List<String> words, Duration timeout) implements Step {
    public String inWords() { return (isShell() ? "sh '" : "run '") + command() + "'"; }
    public List<String> program() { return words; }
    public void run(CommandRunner runner, RestartRun run) {
        CommandResult result = runner.run(words, timeout, Map.of());
        if (result.exit() != 0) throw new StepFailedException("the command `" + command()
            + "` failed with exit code " + result.exit() + result.lastWords());
        run.record("ran '" + command() + "'");
    }

    private String command() {
        return isShell() ? Text.plain(words.get(2), 200) : Text.command(words);
    }

    private boolean isShell() {
        return words.size() == 3 && words.subList(0, 2).equals(List.of("/bin/sh", "-c"));
    }
}

record PauseStep(Duration time) implements Step {
    public String inWords() { return "pause " + Text.time(time); }
    public void run(CommandRunner runner, RestartRun run) { runner.deadline().sleep(time); }
}

record OwnStep() implements Step {
    public String inWords() { return "custom Groovy code"; }
    public void run(CommandRunner runner, RestartRun run) { }
}

/** A step that failed; its message is for people. */
final class StepFailedException extends RuntimeException {
    StepFailedException(String message) { super(message, null, false, false); }
}

/** A detached process, and its log from {@code logStart} on. */
record StartedProcess(Process process, List<String> words, File log, long logStart) {
    /** Null while it runs, or when it ended with 0, as a program does that daemonizes itself. */
    String failure() {
        if (process.isAlive() || process.exitValue() == 0) return null;
        String text = Text.program(words) + " ended with exit code " + process.exitValue();
        return text + (log.equals(CommandRunner.NO_LOG) ? "; start it with log: 'file' to see why"
            : Text.lastWords(CommandRunner.tail(log, logStart)));
    }
}

/** A command's exit code and the last 16 KiB of its output. */
record CommandResult(int exit, String output) {
    String lastWords() { return Text.lastWords(output); }
}

/** What a remedy has done so far, and why it failed, if it did. */
final class RestartRun {
    private final List<String> actions = new ArrayList<>();
    private final List<StartedProcess> started = new ArrayList<>();
    private String failure;

    void record(String action) { actions.add(action); }
    void record(StartedProcess start) {
        started.add(start);
        record("started " + Text.program(start.words()) + " (pid " + start.process().pid() + ")");
    }
    void failed(String why) { failure = why; }
    boolean failed() { return failure != null; }
    String failure() { return failure; }

    /** The failure of a process that ended after its start; null: none did. */
    String exitedEarly() {
        return failed() ? null : started.stream().map(StartedProcess::failure)
            .filter(Objects::nonNull).findFirst().orElse(null);
    }

    String summary() {
        String text = String.join("; ", actions);
        return failure == null ? text : text + (text.isEmpty() ? "" : ", then ") + failure;
    }
}

/** Runs commands in the rules' folder, with the rules' `path` folders before PATH. */
record CommandRunner(Path folder, Path tempFolder, List<String> extraPath, Map<String, String> env,
                     Deadline deadline, Consumer<String> progress) {
    static final File NO_LOG = new File("/dev/null");
    private static final int MAX_KEPT = 16 << 10, MAX_LOG = 1 << 20, MAX_OUTPUT = 64 << 20;
    private static final String SETSID = "POSIX::setsid(); exec { $ARGV[0] } @ARGV or die $!";

    /** All steps, in order; the first that fails ends the remedy. */
    RestartRun run(Callable<?> remedy) {
        RestartRun run = new RestartRun();
        try {
            executeAll(remedy, run);
        } catch (StepFailedException | MissingSecretException failed) {
            run.failed(failed.getMessage());
        } catch (Throwable thrown) { // the rules' Groovy may throw anything
            run.failed("restart failed" + RulesLoader.lineOf(thrown) + ": "
                + Text.plain(Text.thrown(thrown), 200));
        }
        return run;
    }

    private void executeAll(Callable<?> remedy, RestartRun run) throws Exception {
        Lean.apply(remedy, new Dsl.RemedySpec(step -> {
            execute(step, run);
            return "";
        }, true));
    }

    private void execute(Step step, RestartRun run) {
        if (deadline.passed())
            throw new StepFailedException("the pass reached its deadline before " + step.inWords());
        MissingSecretException.check(step.inWords());
        progress.accept("  " + step.inWords());
        step.run(this, run);
    }

    /** Detached (setsid) and without pipes to us, so that it survives this pass and cron's job. */
    StartedProcess start(List<String> words, String log) {
        String setsid = "/usr/bin/setsid"; // macOS has none
        List<String> detach = Files.isExecutable(Path.of(setsid)) ? List.of(setsid)
            : List.of("/usr/bin/perl", "-MPOSIX", "-e", SETSID);
        File file = log == null ? NO_LOG : folder.resolve(log).toFile();
        try {
            long logStart = rotate(file);
            Process process = launch(detach, words, Map.of(), Redirect.appendTo(file));
            StartedProcess started = new StartedProcess(process, words, file, logStart);
            Deadline.in(Duration.ofMillis(100)).await(() -> !process.isAlive());
            if (started.failure() != null) throw new StepFailedException(started.failure());
            SecureFiles.folder(pidFile(words).getParent());
            byte[] identity = identityOf(process.toHandle()).getBytes(StandardCharsets.UTF_8);
            SecureFiles.write(pidFile(words), identity);
            return started;
        } catch (IOException | OutOfMemoryError e) { // a failed fork is either
            throw cannot("start", words, e);
        }
    }

    /** A daemon's log may grow for years: beyond 1 MiB it begins anew, and one old file is kept. */
    private static long rotate(File log) throws IOException {
        if (log.length() < MAX_LOG) return log.length();
        Files.move(log.toPath(), Path.of(log + ".old"), StandardCopyOption.REPLACE_EXISTING);
        return 0;
    }

    /** Whether `start` started this process, which may show another name after an `exec`. */
    boolean hasStarted(ProcessHandle process, List<String> words) {
        try {
            return Files.readString(pidFile(words)).equals(identityOf(process));
        } catch (IOException neverStarted) {
            return false;
        }
    }

    private Path pidFile(List<String> words) {
        return tempFolder.resolve("started/" + CompiledRulesCache.hash(words.toString()));
    }

    /** With the start time, since the system reuses process numbers. */
    private static String identityOf(ProcessHandle process) {
        return process.pid() + " " + process.info().startInstant();
    }

    /** Its output goes to a file: a daemon that it leaves behind would keep a pipe open. */
    CommandResult run(List<String> words, Duration timeout, Map<String, String> extraEnv) {
        try {
            Path output = Files.createTempFile(tempFolder, "run-", ".tmp");
            try {
                Process process = launch(List.of(), words, extraEnv, Redirect.to(output.toFile()));
                return waitFor(process, words, timeout, output.toFile());
            } finally {
                output.toFile().delete();
            }
        } catch (IOException | OutOfMemoryError e) {
            throw cannot("run", words, e);
        }
    }

    private static StepFailedException cannot(String verb, List<String> words, Throwable cause) {
        return new StepFailedException(
            "cannot " + verb + " '" + Text.command(words) + "': " + Text.thrown(cause));
    }

    private Process launch(List<String> prefix, List<String> words, Map<String, String> extraEnv,
                           Redirect output) throws IOException {
        List<String> command = new ArrayList<>(prefix);
        command.add(resolve(words).toString());
        command.addAll(words.subList(1, words.size()));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile())
            .redirectInput(NO_LOG).redirectErrorStream(true).redirectOutput(output);
        Map<String, String> variables = builder.environment();
        variables.clear();
        variables.putAll(env);
        variables.put("PATH", path());
        extraEnv.forEach((name, value) -> variables.put(name, value.replace("\0", "")));
        return builder.start();
    }

    private CommandResult waitFor(Process process, List<String> words, Duration timeout,
                                  File output) {
        Deadline end = deadline.sooner(timeout);
        boolean ended = end.await(() -> !process.isAlive() || output.length() > MAX_OUTPUT);
        if (!process.isAlive()) return new CommandResult(process.exitValue(), tail(output, 0));
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly();
        throw new StepFailedException("'" + Text.command(words) + "' "
            + (ended ? "printed more than 64 MiB" : "did not end within " + Text.time(timeout))
            + " and was killed" + Text.lastWords(tail(output, 0)));
    }

    /** The text of a file from an offset on, but at most its last 16 KiB. */
    static String tail(File file, long from) {
        try (var in = new FileInputStream(file)) {
            in.skip(Math.max(from, file.length() - MAX_KEPT));
            return new String(in.readNBytes(MAX_KEPT), StandardCharsets.UTF_8);
        } catch (IOException unreadable) {
            return "";
        }
    }

    Path resolve(List<String> words) { return resolve(words.get(0), folder, path()); }

    private String path() {
        List<String> folders = new ArrayList<>(extraPath);
        folders.add(env.getOrDefault("PATH", "/usr/bin:/bin"));
        return String.join(":", folders);
    }

    /** The file that a command's first word names, or a sentence about what is wrong with it. */
    static Path resolve(String program, Path folder, String path) {
        if (!program.contains("/")) return search(program, folder, path);
        Path file = folder.resolve(program).normalize();
        if (Files.isDirectory(file)) throw new StepFailedException(file + " is a folder");
        if (!Files.isRegularFile(file)) throw new StepFailedException(file + " does not exist");
        if (!Files.isExecutable(file)) throw new StepFailedException(
            file + " is not executable; fix it with: chmod +x " + file);
        String shell = ProcessStopper.interpreter(file);
        if (shell != null && shell.startsWith("/") && !Files.isExecutable(Path.of(shell)))
            throw new StepFailedException(file + " needs " + shell + ", which does not exist");
        return file;
    }

    private static Path search(String program, Path folder, String path) {
        return Stream.of(path.split(":")).map(place -> folder.resolve(place).resolve(program))
            .filter(file -> Files.isRegularFile(file) && Files.isExecutable(file)).findFirst()
            .orElseThrow(() -> new StepFailedException("no program '" + program + "' in " + path
                + "; name its folder: path '/opt/...'"));
    }
}

/** Ends the processes that run these words: a program, or a script behind its interpreter. */
record ProcessStopper(CommandRunner runner, List<String> words) {
    private static final int MAX_PROCESSES = 5;
    private static final Duration AFTER_KILL = Duration.ofSeconds(2);
    private static final String USER = ProcessHandle.current().info().user().orElse("?");
    /** This pass and its ancestors, which are never ended. */
    private static final Set<ProcessHandle> OURS =
        Stream.iterate(ProcessHandle.current(), Objects::nonNull, p -> p.parent().orElse(null))
            .collect(Collectors.toSet());

    /** Returns what was done, in words. */
    String stop(Duration grace) {
        StopStep.refuseTooShort(words);
        String command = Text.cut(Text.command(words), 200), program = Text.program(words);
        List<ProcessHandle> found = find();
        if (found.isEmpty()) return "no process runs '" + command + "', so nothing was stopped";
        if (found.size() > MAX_PROCESSES) throw new StepFailedException("stop '" + command
            + "' matches " + found.size() + " processes, more than " + MAX_PROCESSES
            + "; write more of the command's arguments");

        boolean killed = end(withChildren(found), grace);
        List<ProcessHandle> again = find();
        if (!again.isEmpty()) throw new StepFailedException(program + " was started again ("
            + pids(again) + ") by something else; restart it there: run 'systemctl restart ...'");
        return (killed ? "killed " : "stopped ") + program + " (" + pids(found) + ")";
    }

    /** Refuses if one of them belongs to another user. */
    private List<ProcessHandle> find() {
        List<ProcessHandle> found = ProcessHandle.allProcesses()
            .filter(p -> !OURS.contains(p) && (runsCommand(p) || runner.hasStarted(p, words)))
            .filter(ProcessStopper::isAlive).toList();
        for (ProcessHandle process : found)
            if (!userOf(process).equals(USER)) throw new StepFailedException(Text.program(words)
                + " (pid " + process.pid() + ") belongs to user " + userOf(process)
                + "; watchdog only stops processes of its own user, " + USER);
        return found;
    }

    private static String userOf(ProcessHandle process) {
        return process.info().user().orElse(USER);
    }

    private boolean runsCommand(ProcessHandle process) {
        List<String> line = commandLine(process);
        if (isProgram(line.get(0), words.get(0))) return hasArguments(line, 1);
        int script = 1; // behind the interpreter and its flags
        while (script < line.size() && line.get(script).startsWith("-")) script++;
        return script < line.size() && hasArguments(line, script + 1)
            && fileName(line.get(script)).equals(fileName(words.get(0)))
            && interprets(process, line.get(0), line.get(script));
    }

    /** From /proc where there is one: Java omits arguments beyond 4 KiB. */
    private static List<String> commandLine(ProcessHandle process) {
        List<String> line = new ArrayList<>();
        try {
            byte[] bytes = Files.readAllBytes(Path.of("/proc/" + process.pid() + "/cmdline"));
            line.addAll(List.of(new String(bytes, StandardCharsets.UTF_8).split("\0", -1)));
        } catch (IOException noProc) {
            line.add("");
            line.addAll(List.of(process.info().arguments().orElse(new String[0])));
        }
        process.info().command().ifPresent(file -> line.set(0, file.replace(" (deleted)", "")));
        return line;
    }

    /** By name, or by the file that the name leads to: `python3` runs as python3.11. */
    private boolean isProgram(String running, String program) {
        if (running.equals(program) || fileName(running).equals(program)) return true;
        try {
            return Files.isSameFile(runner.resolve(List.of(program)), Path.of(running));
        } catch (StepFailedException | IOException | InvalidPathException unknown) {
            return false;
        }
    }

    private boolean hasArguments(List<String> line, int from) {
        List<String> arguments = words.subList(1, words.size());
        return Collections.indexOfSubList(line.subList(from, line.size()), arguments) == 0;
    }

    /** `vim cloudflared` only names the script: its first line must name what is running. */
    private boolean interprets(ProcessHandle process, String running, String file) {
        Path script = Path.of("/proc/" + process.pid() + "/cwd").resolve(file);
        String interpreter = interpreter(script);
        return interpreter != null && isProgram(script.toString(), words.get(0))
            && (isProgram(running, interpreter)
                || fileName(running).startsWith(fileName(interpreter)));
    }

    /** The program that a script's first line names, itself or by `env`; null: no script. */
    static String interpreter(Path file) {
        try (var in = Files.newInputStream(file)) {
            String text = new String(in.readNBytes(256), StandardCharsets.UTF_8);
            if (!text.startsWith("#!")) return null;
            String line = text.substring(2).lines().findFirst().orElse("");
            return Stream.of(line.trim().split("\\s+"))
                .filter(word -> !word.startsWith("-") && !fileName(word).equals("env"))
                .findFirst().orElse(null);
        } catch (IOException e) {
            return null;
        }
    }

    private static String fileName(String path) {
        return path.substring(path.lastIndexOf('/') + 1);
    }

    /** A zombie is dead. It has no command; nor has a process that is ending and holds its port. */
    private static boolean isAlive(ProcessHandle process) {
        if (!process.isAlive() || process.info().command().isPresent()) return process.isAlive();
        try {
            Path file = Path.of("/proc/" + process.pid() + "/stat");
            String stat = Files.readString(file, StandardCharsets.ISO_8859_1);
            return !stat.startsWith("Z", stat.lastIndexOf(')') + 2);
        } catch (IOException noProc) { // macOS, which also hides other users' commands
            return !userOf(process).equals(USER);
        }
    }

    /** Listed before the parents end: afterwards nothing links them. */
    private static List<ProcessHandle> withChildren(List<ProcessHandle> parents) {
        return Stream.concat(parents.stream().flatMap(ProcessHandle::descendants), parents.stream())
            .filter(process -> !OURS.contains(process)).distinct().toList();
    }

    /** SIGTERM, SIGCONT so that a suspended one can end, then SIGKILL: true if it was needed. */
    private boolean end(List<ProcessHandle> processes, Duration grace) {
        processes.forEach(ProcessHandle::destroy);
        // Java has no SIGCONT; the shell's own `kill` exists everywhere.
        String wake = alive(processes).stream().map(process -> "kill -CONT " + process.pid())
            .collect(Collectors.joining("\n"));
        runner.run(List.of("/bin/sh", "-c", wake), AFTER_KILL, Map.of());
        BooleanSupplier ended = () -> alive(processes).isEmpty();
        if (runner.deadline().sooner(grace).await(ended)) return false;
        alive(processes).forEach(ProcessHandle::destroyForcibly);
        if (Deadline.in(AFTER_KILL).await(ended)) return true;
        throw new StepFailedException(
            "cannot stop " + Text.program(words) + " (" + pids(alive(processes)) + ")");
    }

    private static List<ProcessHandle> alive(List<ProcessHandle> processes) {
        return processes.stream().filter(ProcessStopper::isAlive).toList();
    }

    private static String pids(List<ProcessHandle> processes) {
        return processes.stream().map(p -> "pid " + p.pid()).collect(Collectors.joining(", "));
    }
}

/** A moment at which waiting ends, on a clock that nobody can set. */
record Deadline(long nanos) {
    static Deadline in(Duration time) { return new Deadline(System.nanoTime() + time.toNanos()); }

    boolean passed() { return left().isZero(); }
    Duration left() { return Duration.ofNanos(Math.max(0, nanos - System.nanoTime())); }

    Deadline sooner(Duration time) {
        Deadline other = in(time);
        return other.nanos - nanos < 0 ? other : this;
    }

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
    private static final ExecutorService POOL =
        Executors.newCachedThreadPool(DaemonThreads::thread);

    static <T> Future<T> run(Callable<T> work) { return POOL.submit(work); }
    static void begin(Runnable work) { POOL.execute(work); }

    static Thread thread(Runnable work) {
        Thread thread = new Thread(work, "watchdog");
        thread.setDaemon(true);
        return thread;
    }

    static <T> T get(Callable<T> work, Duration time, T otherwise) {
        return get(run(work), time, otherwise);
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
record OutboxEntry(Dsl.Event event, String hook, Instant notBefore) {
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
    private final Map<String, Dsl.Hook> hooks = new HashMap<>();
    private final Environment world;
    private final HttpClients web;
    final CommandRunner hands;
    private final List<String> troubles = Collections.synchronizedList(new ArrayList<>());
    private final Set<String> resting = ConcurrentHashMap.newKeySet(); // they failed in this pass already
    private final Map<String, CompletableFuture<?>> sending = new HashMap<>();

    Notifier(StateStore notebook, List<Dsl.Hook> hooks, Environment world, HttpClients web, CommandRunner hands) {
        this.notebook = notebook;
        for (Dsl.Hook hook : hooks) // also by its service: settings may be edited while a message waits
            for (String name : List.of(hook.id(), hook.label())) this.hooks.putIfAbsent(name, hook);
        this.world = world;
        this.web = web;
        this.hands = hands;
    }

    void post(Dsl.Event event, Collection<Dsl.Hook> to) {
        for (Dsl.Hook hook : new LinkedHashSet<>(to))
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
        Dsl.Hook hook = hooks.getOrDefault(id, hooks.get(Text.hook(id)));
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

    private void deliver(Dsl.Hook hook, List<OutboxEntry> fresh) {
        Dsl.Event event = MessageText.merged(fresh.stream().map(OutboxEntry::event).toList(), world.now());
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
    DeliveryResult attempt(Dsl.Hook hook, Dsl.Event event) {
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
    static Dsl.Event about(Dsl.EventKind kind, WatchResult outcome, Incident incident, Instant now) {
        String name = outcome.watch.name();
        String is = switch (kind) {
            case down -> " is down";
            case healed, recovered -> " is healthy again";
            case gave_up -> " is down and is not restarted any more";
            default -> " is still down";
        };
        return new Dsl.Event(kind, name, name + is, text(kind, outcome, incident, now), now, incident.since());
    }

    private static String text(Dsl.EventKind kind, WatchResult outcome, Incident incident, Instant now) {
        String time = Text.time(Duration.between(WatchState.earlier(incident.since(), now), now));
        String why = outcome.verdict().reason() + ".", was = "It was down for " + time + ": " + incident.reason() + ".";
        String did = Text.upperFirst(outcome.done);
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

    static Dsl.Event unwatched(String name, Incident incident, Instant now) {
        return new Dsl.Event(Dsl.EventKind.recovered, name, name + " is no longer watched",
            "It was removed from the rules while it was down: " + incident.reason() + ".", now, incident.since());
    }

    /** What waits for one hook becomes one message; of an incident that is over, only its end is told. */
    static Dsl.Event merged(List<Dsl.Event> events, Instant now) {
        Set<Dsl.EventKind> ends = EnumSet.of(Dsl.EventKind.healed, Dsl.EventKind.recovered);
        Function<Dsl.Event, String> story = e -> e.watch() + e.since();
        Set<String> over = events.stream().filter(e -> ends.contains(e.kind())).map(story).collect(Collectors.toSet());
        List<Dsl.Event> told = events.stream()
            .filter(e -> ends.contains(e.kind()) || !over.contains(story.apply(e))).toList();
        Dsl.Event first = told.get(0), last = told.get(told.size() - 1);
        boolean old = first.at().isBefore(now.minus(Duration.ofMinutes(10)));
        String text = told.stream().map(e -> (old ? Text.at(e.at()) + " " : "") + e.title() + ". " + e.text())
            .collect(Collectors.joining("\n"));
        if (told.size() == 1) text = last.text()
            + (old ? " (This was at " + Text.at(last.at()) + "; it could not be sent before.)" : "");
        String watches = told.stream().map(Dsl.Event::watch).distinct().collect(Collectors.joining(", "));
        return new Dsl.Event(last.kind(), watches, title(told), text, first.at(), first.since());
    }

    private static String title(List<Dsl.Event> told) {
        List<String> names = told.stream().map(Dsl.Event::watch).distinct().toList();
        List<String> are = told.stream().map(e -> e.title().substring(e.watch().length())).distinct().toList();
        if (names.size() == 1) return told.get(told.size() - 1).title();
        return are.size() > 1 ? told.size() + " messages about " + Text.list(names)
            : Text.list(names) + are.get(0).replaceFirst("^ is ", " are ");
    }
}

/** The services that take messages: where each wants them, in which shape, and how long they may be. */
final class HookProviders {
    static Dsl.Sender of(String service, Map<String, ?> o) { return (by, event) -> send(service, o, by, event); }

    private static DeliveryResult send(String service, Map<String, ?> o, Notifier by, Dsl.Event event) {
        String title = Text.cut(event.title(), 250), all = event.title() + "\n" + event.text();
        boolean urgent = Integer.valueOf(2).equals(o.get("priority")); // Pushover insists on being told how to insist
        return switch (service) {
            case "pushover" -> by.post(url(o, "https://api.pushover.net") + "/1/messages.json", Map.of(), filled(
                "token", o.get("token"), "user", o.get("user"), "title", title, "message", Text.cut(event.text(), 1024),
                "timestamp", event.at().getEpochSecond(), "priority", o.get("priority"), "sound", o.get("sound"),
                "device", o.get("device"), "retry", urgent ? 60 : null, "expire", urgent ? 3600 : null), true);
            case "ntfy" -> by.post(url(o, "https://ntfy.sh") + "/",
                o.get("token") == null ? Map.of() : Map.of("Authorization", "Bearer " + o.get("token")),
                filled("topic", o.get("topic"), "title", title, "message", Text.cut(event.text(), 1300),
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

    private static Map<String, Object> filled(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) if (pairs[i + 1] != null) map.put((String) pairs[i], pairs[i + 1]);
        return map;
    }

    static Dsl.Sender webhook(String url, Map<?, ?> headers, Function<Dsl.Event, ?> json) {
        return (by, event) -> by.post(url, headers == null ? Map.of() : headers, json.apply(event), false);
    }

    static Dsl.Sender closure(Consumer<Dsl.Event> block) {
        return (by, event) -> {
            block.accept(event);
            return DeliveryResult.DONE;
        };
    }

    /** The message as last argument, and all of it as variables: text from the network never meets a shell. */
    record Command(List<String> words) implements Dsl.Sender {
        public DeliveryResult send(Notifier by, Dsl.Event event) {
            List<String> all = new ArrayList<>(words);
            all.add(Text.cut(event.title() + ": " + event.text(), 8000).replace("\0", ""));
            CommandResult ran = by.hands.run(all, Notifier.PATIENCE, Map.of("WATCHDOG_EVENT", event.kind().name(),
                "WATCHDOG_WATCH", event.watch(), "WATCHDOG_TITLE", event.title(),
                "WATCHDOG_TEXT", Text.cut(event.text(), 8000),
                "WATCHDOG_AT", event.at().toString(), "WATCHDOG_SINCE", event.since().toString()));
            return ran.exit() == 0 ? DeliveryResult.DONE : DeliveryResult.later("exit code " + ran.exit() + ran.lastWords());
        }
    }
}

// === 8. The rules file ===============================================================================================
// rules.groovy is plain Groovy, statically compiled: each block declares its words, so that a mistake anywhere is found
// when the file is loaded. The public methods below are the language; their comments are its reference. Words that take
// options have them as a first parameter; the compiler fills in an empty one where a line has none.

/** The words of rules.groovy, and what its lines may hold. Public, since scripts live in another class loader. */
interface Dsl {
    /** The options of a word and their types, of which the compiler tells Groovy's type checker; !: must be given. */
    @Retention(RetentionPolicy.RUNTIME) @Target(ElementType.PARAMETER) @interface Options { String value(); }

    /** The kinds of message, for `on: [healed, gave_up]`. */
    enum EventKind { down, healed, still_down, gave_up, recovered, reminder, rules_broken, test }

    /** Why there is no usable answer, for `restart(when: { error == refused })`. */
    enum Failure { none, refused, unknownHost, unreachable, timeout, tls, reset, closed }

    /** A message, as closures and webhooks get it. */
    record Event(EventKind kind, String watch, String title, String text, Instant at, Instant since) { }

    /** How a hook sends a message. */
    interface Sender { DeliveryResult send(Notifier by, Event event); }

    /** A way to tell somebody. Two with the same settings are the same hook. */
    record Hook(String label, String id, Sender sender, Set<EventKind> on, Hook orElse, String missing) {
        Hook with(Set<EventKind> kinds, Hook otherwise) { return new Hook(label, id, sender, kinds, otherwise, missing); }
    }

    /** What can be restarted, and for which cause ({@code when} null: for any). The same steps run once a pass. */
    record Remedy(Callable<?> when, Callable<?> steps) {
        private static final int MOST_PLANNED = 100; // a loop that counts itself does not count while nothing is done

        /** The steps as data, none of them done; up to where plain Groovy needs what only doing them would give. */
        List<Step> planned() {
            List<Step> planned = new ArrayList<>();
            try {
                Lean.apply(steps, new RemedySpec(step -> {
                    if (planned.add(step) && planned.size() > MOST_PLANNED) throw new StepFailedException("a loop without end");
                    return "";
                }, false));
            } catch (Exception | AssertionError | StackOverflowError told) { // when it is carried out
                planned.add(new OwnStep());
            }
            return planned;
        }

        String inWords() {
            List<Step> planned = planned();
            return planned.isEmpty() ? "nothing"
                : planned.stream().map(Step::inWords).distinct().collect(Collectors.joining(", then "));
        }
    }

    /** The words at the top of the file; they can be used in every block. */
    abstract class RulesScript {
        RulesLoader rulesFile;

        /** The rules themselves. */
        protected abstract Object run();

        /** A service under watch; its name is unique. */
        public void watch(String name,
                          @DelegatesTo(value = WatchSpec.class, strategy = Closure.DELEGATE_FIRST) Callable<?> block)
                throws Exception {
            WatchBuilder draft = new WatchBuilder(rulesFile, name);
            Lean.apply(block, new WatchSpec(draft));
            rulesFile.add(draft);
        }
        /** A hook for every watch; `on:` the kinds to tell (default all), `orElse:` a hook for when it is not taken. */
        public void notifying(@Options("on: List, orElse: Hook") Map<String, ?> o, Hook hook) {
            rulesFile.attach(rulesFile.everywhere, o, hook, "every watch");
        }
        /** Folders that are searched before PATH for commands: absolute, or beginning with ~/. */
        public void path(String... folders) { rulesFile.path(folders); }
        /** A dead man's switch to GET at the end of each pass. */
        public void heartbeat(String url) { rulesFile.heartbeat = rulesFile.url("heartbeat", url); }
        /** How long a whole pass may take at most; default 4.minutes. */
        public void deadline(Duration time) { rulesFile.deadline = rulesFile.positive("deadline", time); }
        /** A remedy that several watches can name: `def tunnel = restart { … }`, then `restart tunnel`. */
        public Remedy restart(@Options("") Map<String, ?> none,
                @DelegatesTo(value = RemedySpec.class, strategy = Closure.DELEGATE_FIRST) Callable<?> steps) {
            return new Remedy(null, steps);
        }
        /** A value from the environment, else from the secrets file beside the rules; never printed. */
        public String secret(String name) { return rulesFile.secrets.get(name); }
        /** This machine's name. */
        public String getHost() { return rulesFile.host(); }

        /** pushover.net; both keys are on its dashboard. */
        public Hook pushover(@Options("token: String!, user: String!, priority: Integer, sound: String, "
            + "device: String, url: String") Map<String, ?> o) { return rulesFile.hook("pushover", o); }
        /** ntfy.sh, or your own by `url:`. */
        public Hook ntfy(@Options("topic: String!, token: String, priority: Integer, tags: List, url: String")
            Map<String, ?> o) { return rulesFile.hook("ntfy", o); }
        /** A Slack incoming webhook. */
        public Hook slack(@Options("url: String!") Map<String, ?> o) { return rulesFile.hook("slack", o); }
        /** A Discord webhook. */
        public Hook discord(@Options("url: String!") Map<String, ?> o) { return rulesFile.hook("discord", o); }
        /** A Telegram bot and the chat it writes to. */
        public Hook telegram(@Options("token: String!, chat: String!, url: String") Map<String, ?> o) {
            return rulesFile.hook("telegram", o);
        }
        /** POSTs {kind, watch, title, text, at, since} as JSON, with `headers:`. */
        public Hook webhook(@Options("headers: Map") Map<String, ?> o, String url) {
            return webhook(o, url, event -> event);
        }
        /** POSTs what the block makes of the event: `webhook(url) { [text: it.title] }`. */
        public Hook webhook(@Options("headers: Map") Map<String, ?> o, String url, Function<Event, ?> json) {
            return rulesFile.hook("webhook", Map.of("url", rulesFile.url("webhook", url), "o", o),
                HookProviders.webhook(url, (Map<?, ?>) o.get("headers"), json));
        }
        /** Runs a command with the message as its last argument and WATCHDOG_* variables. */
        public Hook command(String command) {
            return rulesFile.hook("command", Map.of("command", command),
                new HookProviders.Command(rulesFile.words(command)));
        }
        /** A block of your own: `notify { event -> … }`. */
        public Hook closure(Consumer<Event> block) {
            return rulesFile.hook("closure", Map.of("number", rulesFile.closures++), HookProviders.closure(block));
        }

        public EventKind getDown() { return EventKind.down; }
        public EventKind getHealed() { return EventKind.healed; }
        public EventKind getStill_down() { return EventKind.still_down; }
        public EventKind getGave_up() { return EventKind.gave_up; }
        public EventKind getRecovered() { return EventKind.recovered; }
        public EventKind getReminder() { return EventKind.reminder; }
        public EventKind getRules_broken() { return EventKind.rules_broken; }
    }

    /** The words of watch { }. */
    class WatchSpec {
        private final WatchBuilder draft;

        WatchSpec(WatchBuilder draft) { this.draft = draft; }

        /** What to ask, http or https. */
        public void url(String url) { draft.url = draft.once("url", draft.url, draft.rules.url("url", url)); }
        /** A port that must accept a connection, as 'host:port'. */
        public void tcp(String address) { draft.tcp = draft.once("tcp", draft.tcp, address); }
        /** A command that must exit with 0; in healthy, status is its exit code and body what it prints. */
        public Hook command(String command) { return draft.command(command); }
        /** GET unless said otherwise; POST when there is something to send. */
        public void method(String method) { draft.method = method; }
        /** A request header. */
        public void header(String name, String value) { draft.headers.put(name, value); }
        /** User and password for HTTP basic authentication. */
        public void basicAuth(String user, String password) { header("Authorization", draft.basic(user, password)); }
        /** A bearer token. */
        public void bearer(String token) { header("Authorization", "Bearer " + token); }
        /** The request's body; `type:` its media type, default application/json. */
        public void send(@Options("type: String") Map<String, ?> o, String body) {
            draft.body = body;
            draft.type = o.get("type") == null ? draft.type : (String) o.get("type");
        }
        /** A PEM file with a certificate authority of your own, trusted beside the system's. */
        public void trust(String file) { draft.trust = draft.rules.certificates(file); }
        /** none, sameHost (default) or any: which redirects are followed; never from https to http. */
        public void followRedirects(RedirectPolicy which) { draft.redirects = which; }
        public final RedirectPolicy none = RedirectPolicy.none, sameHost = RedirectPolicy.sameHost, any = RedirectPolicy.any;
        /** Conditions, one a line, that must all hold; default status in 200..299. */
        public void healthy(@DelegatesTo(value = Conditions.class, strategy = Closure.DELEGATE_FIRST)
                            Callable<?> conditions) {
            draft.healthy = draft.once("healthy", draft.healthy, conditions);
        }
        /** The whole exchange: name, connection, TLS, body; default 10.seconds. */
        public void timeout(Duration time) { draft.timeout = draft.rules.positive("timeout", time); }
        /** How often a bad look is repeated before it counts, default 2; `every:` the time between, default 2 s. */
        public void attempts(@Options("every: Duration") Map<String, ?> o, int number) {
            draft.attempts = draft.rules.atLeastOne("attempts", number);
            draft.every = draft.time(o, "every", draft.every);
        }
        /** Looks on fresh connections, default 1, of which `good:` must be healthy, default all. */
        public void samples(@Options("good: Integer") Map<String, ?> o, int number) {
            draft.samples = draft.rules.atLeastOne("samples", number);
            draft.good = o.get("good") == null ? number : draft.rules.atLeastOne("good", (Integer) o.get("good"));
        }
        /** Unhealthy passes in a row before a restart and a message; default 1. */
        public void failures(int passes) { draft.failures = draft.rules.atLeastOne("failures", passes); }
        /** Watches that must be healthy for this one to be judged; else it is blocked. */
        public void needs(String... watches) { draft.needs.addAll(List.of(watches)); }
        /** The remedy; several are a ladder, of which the next is taken when the last did not help. `when:` a block of
         *  conditions: this one is only for that cause, and goes before those without. */
        public void restart(@Options("when: Callable") Map<String, ?> o,
                @DelegatesTo(value = RemedySpec.class, strategy = Closure.DELEGATE_FIRST) Callable<?> steps) {
            draft.remedies.add(new Remedy((Callable<?>) o.get("when"), steps));
        }
        /** A remedy that was made at the top of the file. */
        public void restart(@Options("when: Callable") Map<String, ?> o, Remedy remedy) {
            restart(o, remedy.steps());
        }
        /** What the compiler makes of `when:`. */
        public Callable<?> cause(@DelegatesTo(value = CauseConditions.class, strategy = Closure.DELEGATE_FIRST)
                                Callable<?> conditions) { return conditions; }
        /** How long it may take to be healthy after a restart; default 30.seconds. */
        public void within(Duration time) { draft.within = draft.rules.positive("within", time); }
        /** The restart budget: at most so many, default 3, within any `per:`, default 1.hour. */
        public void limit(@Options("per: Duration") Map<String, ?> o, int restarts) {
            draft.limit = draft.rules.atLeastOne("limit", restarts);
            draft.per = draft.time(o, "per", draft.per);
        }
        /** Say again that it is still down; default never. */
        public void remind(Duration every) { draft.remind = draft.rules.positive("remind", every); }
        /** A hook for this watch; `on:` the kinds to tell (default all), `orElse:` a hook for when it is not taken. */
        public void notifying(@Options("on: List, orElse: Hook") Map<String, ?> o, Hook hook) {
            draft.commands.keySet().removeIf(command -> command == hook || command == o.get("orElse"));
            draft.rules.attach(draft.hooks, o, hook, draft.name);
        }
    }

    /** The words of healthy { }: the answer. */
    class Conditions {
        private final Response is;
        private final Map<String, Object> met = new LinkedHashMap<>();

        Conditions(Response answer) { is = answer; }

        /** The HTTP status, such as 200. */
        public int getStatus() { return meet("status", is.status()); }
        /** The body as text, up to 1 MiB after decompression. */
        public String getBody() { return meet("body", is.body()); }
        /** A response header, null if there is none of that name. */
        public String header(String name) { return meet("header('" + name + "')", is.headers().get(name)); }
        /** All response headers by lower-case name; of several with one name, the last. */
        public Map<String, String> getHeaders() {
            Map<String, String> all = new TreeMap<>();
            is.headers().forEach(pair -> all.put(pair.getFirst().toLowerCase(Locale.ROOT), pair.getSecond()));
            return meet("headers", all);
        }
        /** A value out of a JSON body, by a path such as 'a.b[0].c'; null if it is not there or the body is no JSON. */
        @SuppressWarnings("rawtypes")
        public Comparable json(String path) { return meet("json('" + path + "')", Json.at(is.body(), path)); }
        /** How long the whole exchange took. */
        public Duration getTime() { return meet("time", is.time()); }
        /** The URL that answered, after redirects. */
        public String getUrl() { return meet("url", is.url()); }
        /** http/1.1, h2, tcp or command. */
        public String getProtocol() { return meet("protocol", is.protocol()); }
        /** The server's certificate; it is an error to ask where there is none. */
        public ServerCertificate getCertificate() {
            if (is.certificate() == null)
                throw new IllegalStateException("no certificate: the answer did not come over https");
            ServerCertificate certificate = new ServerCertificate(is.certificate());
            meet("certificate.expiresIn", certificate.getExpiresIn());
            return certificate;
        }

        private <T> T meet(String word, T value) {
            met.put(word, value);
            return value;
        }

        /** The values of the words in a condition: ", but status was 530", or with a body "; got HTTP 530, 'no'". */
        String valuesIn(String condition) {
            Map<String, Object> values = new LinkedHashMap<>(met);
            values.keySet().removeIf(word -> !condition.contains(word.replaceFirst("\\(.*", "")));
            boolean hasBody = values.containsKey("body");
            if (hasBody) values.keySet().removeAll(Set.of("status", "body"));
            String text = values.entrySet().stream().map(e -> e.getKey() + " was " + Text.value(e.getValue()))
                .collect(Collectors.joining(" and "));
            if (!text.isEmpty()) text = ", but " + text;
            String status = (is.protocol().equals("command") ? "exit code " : "HTTP ") + is.status();
            return !hasBody ? text : text + "; got " + status + ", " + Text.value(is.body());
        }
    }

    /** The words of restart(when: { }): those of healthy, and why there is no answer. */
    class CauseConditions extends Conditions {
        /** none when there was an answer; else one of the words below. */
        public final Failure error;
        public final Failure none = Failure.none, refused = Failure.refused, unknownHost = Failure.unknownHost,
            unreachable = Failure.unreachable, timeout = Failure.timeout, tls = Failure.tls, reset = Failure.reset,
            closed = Failure.closed;

        CauseConditions(Response answer) {
            super(answer);
            error = answer.trouble();
        }
    }

    /** A certificate, for conditions. */
    record ServerCertificate(X509Certificate certificate) {
        /** How long it is still valid: certificate.expiresIn > 14.days */
        public Duration getExpiresIn() {
            return Duration.between(Instant.now(), certificate.getNotAfter().toInstant());
        }
        @Override public String toString() { return "of " + getSubject(); }
        public String getSubject() { return certificate.getSubjectX500Principal().getName(); }
        public String getIssuer() { return certificate.getIssuerX500Principal().getName(); }
    }

    /** The words of restart { }: steps, done in order; one that fails ends the remedy. A command is a string, split as
     *  a shell splits words, or a list in parentheses. */
    class RemedySpec {
        private final Function<Step, String> take;
        private final boolean forReal;

        RemedySpec(Function<Step, String> take, boolean forReal) {
            this.take = take;
            this.forReal = forReal;
        }

        /** Ends each process of this user that runs these words: SIGTERM, after `grace:` (default 10.seconds) SIGKILL;
         *  no such process is fine. */
        public void stop(@Options("grace: Duration") Map<String, ?> o, String command) {
            stop(o, ShellWords.of(command));
        }
        public void stop(@Options("grace: Duration") Map<String, ?> o, List<?> words) {
            take.apply(new StopStep(ShellWords.of(words), time(o, "grace", 10)));
        }
        /** Starts a daemon that outlives the pass; `log:` a file for its output, anew beyond 1 MiB, default none. */
        public void start(@Options("log: String") Map<String, ?> o, String command) {
            start(o, ShellWords.of(command));
        }
        public void start(@Options("log: String") Map<String, ?> o, List<?> words) {
            take.apply(new StartStep(ShellWords.of(words), (String) o.get("log")));
        }
        /** Runs a command to its end and returns what it printed; fails when its exit code is not 0, or when it takes
         *  longer than `timeout:`, default 1.minute. */
        public String running(@Options("timeout: Duration") Map<String, ?> o, String command) {
            return running(o, ShellWords.of(command));
        }
        public String running(@Options("timeout: Duration") Map<String, ?> o, List<?> words) {
            return take.apply(new RunStep(ShellWords.of(words), time(o, "timeout", 60)));
        }
        /** As run, by /bin/sh: for pipes and variables. */
        public String sh(@Options("timeout: Duration") Map<String, ?> o, String script) {
            return running(o, List.of("/bin/sh", "-c", script));
        }
        /** What the compiler makes of a line of plain Groovy. */
        public void plainly(Callable<?> line) throws Exception {
            if (forReal) line.call();
            else take.apply(new OwnStep());
        }
        /** Waits. Seldom needed: after the last step watchdog itself waits until the service is healthy. */
        public void pause(Duration time) { take.apply(new PauseStep(time)); }

        private static Duration time(Map<String, ?> o, String option, int seconds) {
            return o.get(option) == null ? Duration.ofSeconds(seconds) : (Duration) o.get(option);
        }
    }
}

/** A watch while its block is read. Kept apart from the words, so that `url = …` cannot reach a field. */
final class WatchBuilder {
    final RulesLoader rules;
    final String name;
    final int line = RulesLoader.line();
    final List<Dsl.Remedy> remedies = new ArrayList<>();
    final List<String> needs = new ArrayList<>();
    final List<Dsl.Hook> hooks = new ArrayList<>();
    final Map<String, String> headers = new LinkedHashMap<>();
    final Map<Dsl.Hook, List<String>> commands = new IdentityHashMap<>();
    String url, tcp, method, body, type = "application/json";
    RedirectPolicy redirects = RedirectPolicy.sameHost;
    Path trust;
    Callable<?> healthy;
    Duration timeout = Duration.ofSeconds(10), every = Duration.ofSeconds(2), per = Duration.ofHours(1),
        within = Duration.ofSeconds(30), remind;
    int attempts = 2, samples = 1, good = 1, failures = 1, limit = 3;

    WatchBuilder(RulesLoader rules, String name) {
        this.rules = rules;
        this.name = name;
    }

    /** A command to ask, until `notify command('…')` takes it for a hook. */
    Dsl.Hook command(String command) {
        List<String> words = rules.words(command);
        Dsl.Hook either = rules.hook("command", Map.of("command", command), new HookProviders.Command(words));
        commands.put(either, words);
        return either;
    }

    String basic(String user, String password) {
        String basic = Credentials.basic(user, password, StandardCharsets.UTF_8);
        rules.secrets.hide(basic);
        return MissingSecretException.in(password) == null ? basic : password;
    }

    Duration time(Map<String, ?> o, String option, Duration otherwise) {
        return o.get(option) == null ? otherwise : rules.positive(option, (Duration) o.get(option));
    }

    <T> T once(String word, T before, T now) {
        if (before != null) rules.mistake("watch '" + name + "' has two " + word + " lines; it takes one");
        return now;
    }

    /** All that is missing or contradicts itself is told, not the first thing only. */
    Watch checked() {
        long asked = Stream.of(url, tcp).filter(Objects::nonNull).count() + commands.size();
        refuse(asked == 0, "has nothing to ask; it needs url, tcp or command");
        refuse(asked > 1, "has more than one of url, tcp and command; it takes one");
        refuse(url == null && (method != null || body != null || !headers.isEmpty() || trust != null),
            "has no url, without which method, header, send and trust mean nothing");
        refuse(name.isBlank() || !Text.plain(name, 60).equals(name), "needs a name of one line and up to 60 characters");
        refuse(good > samples, "has samples " + samples + ", good: " + good + "; good cannot be more than the samples");
        List<Dsl.Hook> told = new ArrayList<>(rules.everywhere);
        told.addAll(hooks);
        return new Watch(name, probe(), healthy, List.copyOf(remedies), List.copyOf(needs),
            new CheckSettings(timeout, attempts, every, samples, good),
            new RestartPolicy(failures, limit, per, within, remind), told);
    }

    private void refuse(boolean wrong, String why) {
        if (wrong) rules.mistakeAt(line, "watch '" + Text.plain(name, 60) + "' " + why);
    }

    private Probe probe() {
        String missing = MissingSecretException.in(url + headers.values() + body + commands.values());
        if (missing != null) rules.missing(line, missing, name + " is not asked");
        if (!commands.isEmpty()) return new CommandProbe(commands.values().iterator().next());
        if (tcp != null) return tcpProbe();
        if (url == null || HttpUrl.parse(MissingSecretException.blanked(url)) == null) return null; // said already
        try {
            Request.Builder request = new Request.Builder().url(MissingSecretException.blanked(url));
            headers.forEach((name, value) -> request.header(name, MissingSecretException.blanked(value)));
            String verb = method != null ? method.toUpperCase(Locale.ROOT) : body != null ? "POST" : "GET";
            String sent = body != null ? body : Set.of("POST", "PUT", "PATCH").contains(verb) ? "" : null;
            byte[] bytes = sent == null ? null : MissingSecretException.blanked(sent).getBytes(StandardCharsets.UTF_8);
            request.method(verb, bytes == null ? null : RequestBody.create(bytes, MediaType.get(type)));
            return new HttpProbe(request.build(), redirects, trust, missing);
        } catch (IllegalArgumentException wrong) {
            refuse(true, "cannot be asked: " + Text.lowerFirst(Text.plain(wrong.getMessage(), 120)));
            return null;
        }
    }

    private Probe tcpProbe() {
        int colon = tcp.lastIndexOf(':');
        String port = tcp.substring(colon + 1);
        if (colon > 0 && port.matches("\\d{1,5}") && Integer.parseInt(port) <= 65535)
            return new TcpProbe(tcp.substring(0, colon), Integer.parseInt(port));
        refuse(true, "has tcp '" + tcp + "', which is not host:port, such as 'localhost:32400'");
        return null;
    }
}

/** What the rules say, once they have been found good. Watches stand after what they need. */
record Rules(List<Watch> watches, List<Dsl.Hook> hooks, String heartbeat, Duration deadline, List<String> path,
             List<String> complaints) {
    /** These watches and, in front of each, what it needs. */
    List<Watch> named(List<String> names) {
        if (names == null || names.isEmpty()) return watches;
        Set<String> wanted = new LinkedHashSet<>(names);
        for (int i = watches.size() - 1; i >= 0; i--)
            if (wanted.contains(watches.get(i).name())) wanted.addAll(watches.get(i).needs());
        List<String> known = watches.stream().map(Watch::name).toList();
        for (String name : wanted) {
            if (known.contains(name)) continue;
            List<String> meant = new ArrayList<>(known);
            meant.addAll(List.of("check", "validate", "status", "pause", "resume", "tell", "drill", "launcher"));
            throw ExitException.mistake("watchdog: no watch and no command is called '" + name + "'"
                + Text.didYouMean(name, meant) + (name.contains(".") ? "; a URL begins with https:// or http://" : ""));
        }
        return watches.stream().filter(watch -> wanted.contains(watch.name())).toList();
    }

    Watch one(String name) {
        List<Watch> found = named(List.of(name));
        return found.get(found.size() - 1);
    }
}

/** Reads a rules file: compiles it or takes the compiled one, runs it, collects what it says and all its mistakes. */
final class RulesLoader {
    static final String SCRIPT = "rules"; // a fixed class name: no rules file can shadow a class of ours
    private static final Duration MOST_LOADING = Duration.ofSeconds(10);
    final Path file;
    final Secrets secrets;
    final List<Dsl.Hook> everywhere = new ArrayList<>();
    int closures;
    Duration deadline = Duration.ofMinutes(4);
    String heartbeat;
    private final Environment world;
    private final Map<String, WatchBuilder> watches = new LinkedHashMap<>();
    private final List<String> path = new ArrayList<>();
    private final Map<String, Dsl.Hook> hooks = new LinkedHashMap<>();
    private final Set<String> mistakes = new LinkedHashSet<>(), circled = new HashSet<>();
    private final List<String> complaints = new ArrayList<>();
    private List<String> lines = List.of();

    RulesLoader(Path file, Environment world, Secrets secrets) {
        this.file = file;
        this.world = world;
        this.secrets = secrets;
    }

    static Path find(Path named, Environment world) {
        if (named != null) return world.cwd().resolve(named).normalize();
        Path here = world.cwd().resolve("rules.groovy");
        if (Files.exists(here)) return here;
        Path config = world.folder("XDG_CONFIG_HOME", ".config").resolve("watchdog/rules.groovy");
        return Files.exists(config) ? config : here;
    }

    /** The bytes are read once, so that what was checked is what is compiled. */
    String read() {
        if (!Files.exists(file)) throw ExitException.mistake("watchdog: there are no rules at " + file
            + "; write that file, or name another by --rules FILE");
        if (!Files.isRegularFile(file)) throw ExitException.mistake("watchdog: " + file + " is not a file");
        SecureFiles.onlyOursWrite(file);
        try {
            String text = Files.readString(file);
            return text.startsWith("\uFEFF") ? text.substring(1) : text;
        } catch (java.nio.charset.CharacterCodingException e) {
            throw ExitException.mistake("watchdog: " + file + " is not a text in UTF-8");
        } catch (IOException e) {
            throw ExitException.mistake("watchdog: cannot read " + file + ": " + Text.thrown(e));
        }
    }

    /** From the compiled classes if this very text was compiled before. */
    Rules load(String text, CompiledRulesCache cache) {
        lines = text.lines().toList();
        String key = cache == null ? "" : cache.key(text);
        Map<String, byte[]> classes = cache == null ? null : cache.get(key);
        boolean fresh = classes == null;
        if (fresh) classes = new RulesCompiler(file.getFileName().toString(), text).compile();
        Rules rules = evaluate(classes);
        if (fresh && cache != null) cache.put(key, classes);
        if (cache != null) cache.good(text);
        return rules;
    }

    /** The script may loop or sleep for ever: it gets its time, and no more. */
    private Rules evaluate(Map<String, byte[]> classes) {
        Future<Boolean> run = DaemonThreads.run(() -> {
            run(classes);
            return true;
        });
        if (!DaemonThreads.get(run, MOST_LOADING, false))
            throw ExitException.mistake(file.getFileName() + ": the rules did not end within " + Text.time(MOST_LOADING)
                + "; only blocks such as restart may take long");
        List<Watch> all = watches.values().stream().map(WatchBuilder::checked).toList();
        if (all.isEmpty() && mistakes.isEmpty())
            mistakeAt(0, "no watch in it; it needs at least watch('name') { url 'https://…' }");
        List<Watch> ordered = ordered(all);
        if (!mistakes.isEmpty()) throw ExitException.mistakes(List.copyOf(mistakes));
        return new Rules(ordered, List.copyOf(hooks.values()), heartbeat, deadline, List.copyOf(path),
            List.copyOf(complaints));
    }

    private void run(Map<String, byte[]> classes) {
        try {
            Class<?> rules = new Loader(classes).loadClass(SCRIPT);
            Dsl.RulesScript script = (Dsl.RulesScript) rules.getDeclaredConstructor().newInstance();
            script.rulesFile = this;
            script.run();
        } catch (Throwable thrown) { // whatever a script may throw
            Throwable cause = thrown instanceof InvocationTargetException ? thrown.getCause() : thrown;
            mistakeAt(lineIn(cause), cause instanceof NullPointerException ? "a value here is null"
                : cause instanceof AssertionError failed ? "this does not hold: " + Text.condition(failed)
                : Text.plain(Text.thrown(cause), 200));
        }
    }

    private static final class Loader extends ClassLoader {
        private final Map<String, byte[]> classes;

        Loader(Map<String, byte[]> classes) {
            super(RulesLoader.class.getClassLoader());
            this.classes = classes;
        }

        @Override protected Class<?> findClass(String name) throws ClassNotFoundException {
            byte[] code = classes.get(name);
            if (code == null) throw new ClassNotFoundException(name);
            return defineClass(name, code, 0, code.length);
        }
    }

    private List<Watch> ordered(List<Watch> all) {
        Map<String, Watch> named = new LinkedHashMap<>();
        all.forEach(watch -> named.put(watch.name(), watch));
        Set<Watch> done = new LinkedHashSet<>();
        all.forEach(watch -> visit(watch, named, new ArrayList<>(), done));
        return List.copyOf(done);
    }

    private void visit(Watch watch, Map<String, Watch> named, List<String> way, Set<Watch> done) {
        int line = watches.get(watch.name()).line;
        if (way.contains(watch.name())) {
            if (circled.addAll(way)) mistakeAt(line, "watch '" + watch.name() + "' needs itself: "
                + String.join(" needs ", way) + " needs " + watch.name());
            return;
        }
        way.add(watch.name());
        for (String need : watch.needs()) {
            if (named.containsKey(need)) visit(named.get(need), named, way, done);
            else mistakeAt(line, "watch '" + watch.name() + "' needs '" + need + "', which is no watch"
                + Text.didYouMean(need, named.keySet().stream().filter(name -> !name.equals(watch.name())).toList()));
        }
        way.remove(watch.name());
        done.add(watch);
    }

    // -- what the words of the rules call

    void add(WatchBuilder watch) {
        WatchBuilder first = watches.putIfAbsent(watch.name, watch);
        if (first != null) mistakeAt(watch.line,
            "there are two watches named '" + watch.name + "', the first in line " + first.line);
    }

    Dsl.Hook hook(String service, Map<String, ?> o) { return hook(service, o, HookProviders.of(service, o)); }

    Dsl.Hook hook(String label, Map<String, ?> settings, Dsl.Sender sender) {
        boolean given = settings.get("url") instanceof String url && MissingSecretException.in(url) == null;
        if (given && !label.equals("webhook")) url(label + "'s url", (String) settings.get("url")); // it told its own
        String id = label + "-" + CompiledRulesCache.hash(new TreeMap<>(settings).toString()).substring(0, 8);
        String missing = MissingSecretException.in(settings.toString());
        return new Dsl.Hook(label, id, sender, EnumSet.allOf(Dsl.EventKind.class), null, missing);
    }

    void attach(List<Dsl.Hook> to, Map<String, ?> options, Dsl.Hook hook, String whose) {
        Dsl.Hook otherwise = (Dsl.Hook) options.get("orElse");
        for (Dsl.Hook one : otherwise == null ? List.of(hook) : List.of(hook, otherwise))
            if (one.missing() != null) {
                missing(line(), one.missing(), one.label() + " is left out for " + whose);
                if (one == hook) return;
                otherwise = null;
            }
        Set<Dsl.EventKind> kinds = EnumSet.allOf(Dsl.EventKind.class);
        if (options.get("on") instanceof List<?> given) {
            kinds = EnumSet.of(Dsl.EventKind.test);
            for (Object kind : given)
                if (kind instanceof Dsl.EventKind known) kinds.add(known);
                else mistake("on: takes kinds such as [healed, gave_up], not " + Text.value(kind));
        }
        Dsl.Hook attached = hook.with(kinds, otherwise);
        hooks.putIfAbsent(attached.id(), attached);
        to.add(attached);
    }

    void path(String... folders) {
        for (String folder : folders) {
            String at = folder.startsWith("~/") ? world.home() + folder.substring(1) : folder;
            if (at.startsWith("/") && !at.contains(":")) path.add(at);
            else mistake("path '" + folder + "' is not an absolute folder, such as '/opt/homebrew/bin' or '~/bin'");
        }
    }

    String url(String word, String url) {
        HttpUrl parsed = HttpUrl.parse(MissingSecretException.blanked(url));
        if (parsed == null) mistake(word + " '" + Text.plain(url, 80) + "' is not a URL; it begins with https:// or "
            + "http://, such as 'https://plex.example.com/identity'");
        else secrets.hide(parsed.password());
        return url;
    }

    Duration positive(String word, Duration time) {
        if (time.isZero() || time.isNegative() || time.toDays() > 3650)
            mistake(word + " takes a time above zero, such as 10.seconds");
        return time;
    }

    int atLeastOne(String word, int number) {
        if (number < 1 || number > 1000) mistake(word + " takes a whole number from 1 to 1000, not " + number);
        return number;
    }

    List<String> words(String command) {
        try {
            return ShellWords.of(command);
        } catch (StepFailedException wrong) {
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

    void missing(int line, String secret, String so) {
        complaints.add(file.getFileName() + ":" + line + ": the secret " + secret + " is missing, so " + so + "; "
            + secrets.whereToPut(secret));
    }

    void mistake(String what) { mistakeAt(line(), what); }

    void mistakeAt(int line, String what) {
        boolean known = line > 0 && line <= lines.size();
        mistakes.add(secrets.mask(file.getFileName() + (line > 0 ? ":" + line : "") + ": " + what
            + (known ? "\n    " + lines.get(line - 1).strip() : "")));
    }

    /** The line of the rules that is being run now. */
    static int line() {
        return StackWalker.getInstance().walk(frames -> frames.filter(f -> (SCRIPT + ".groovy").equals(f.getFileName()))
            .mapToInt(StackWalker.StackFrame::getLineNumber).findFirst().orElse(0));
    }

    private static int lineIn(Throwable thrown) {
        return Arrays.stream(thrown.getStackTrace()).filter(f -> (SCRIPT + ".groovy").equals(f.getFileName()))
            .mapToInt(StackTraceElement::getLineNumber).findFirst().orElse(0);
    }

    static String lineOf(Throwable thrown) {
        int line = lineIn(thrown);
        return line > 0 ? " (line " + line + " of the rules)" : "";
    }
}

/** Text of the rules -> classes, or all mistakes in the words of the rules. Loaded only after an edit. */
final class RulesCompiler {
    private static final Map<String, Class<?>> VOCABULARY = Map.of("the file", Dsl.RulesScript.class,
        "watch", Dsl.WatchSpec.class, "healthy", Dsl.Conditions.class, "when", Dsl.CauseConditions.class,
        "restart", Dsl.RemedySpec.class);
    private static final Map<String, Class<?>> OPTION_TYPES = Stream.of(String.class, Integer.class, List.class,
        Map.class, Duration.class, Callable.class, Dsl.Hook.class)
        .collect(Collectors.toMap(Class::getSimpleName, type -> type));
    // Held for as long as this class is: Groovy keeps its nodes weakly, and made anew they would know no options.
    private static final List<ClassNode> WORDS = VOCABULARY.values().stream().map(RulesCompiler::checked).toList();
    private static final Map<String, Long> UNITS = units();

    private static final String UNTYPED =
        " (what a function takes and gives needs a type to be checked: String name(String x) { … })";
    private static final Set<String> TEXT = Arrays.stream(String.class.getMethods()).map(Method::getName)
        .collect(Collectors.toSet());

    /** A block of the rules and where it stands. */
    private record Block(String name, int line, int column, int lastLine, int lastColumn) {
        boolean holds(int l, int c) {
            return (l > line || l == line && c >= column) && (l < lastLine || l == lastLine && c < lastColumn);
        }
    }

    private final String fileName;
    private final String text;
    private final List<String> lines;
    private final List<Block> blocks = new ArrayList<>();
    private final Map<String, String> owned = new HashMap<>();
    private final List<SyntaxException> misplaced = new ArrayList<>();
    private final boolean lean;
    private boolean foreign; // a block that is not one of ours, as in list.each { … }

    RulesCompiler(String fileName, String text) { this(fileName, text, true); }

    private RulesCompiler(String fileName, String text, boolean lean) {
        this.fileName = fileName;
        this.text = text;
        this.lean = lean;
        this.lines = text.lines().toList();
    }

    private static Map<String, Long> units() {
        Map<String, Long> nanos = new TreeMap<>();
        Map.of("millisecond", ChronoUnit.MILLIS, "second", ChronoUnit.SECONDS, "minute", ChronoUnit.MINUTES,
            "hour", ChronoUnit.HOURS, "day", ChronoUnit.DAYS).forEach((name, unit) -> {
                nanos.put(name, unit.getDuration().toNanos());
                nanos.put(name + "s", unit.getDuration().toNanos());
            });
        return nanos;
    }

    /** Groovy's type checker knows the options of a word by an annotation for each, which would hide the words. */
    private static ClassNode checked(Class<?> words) {
        ClassNode node = ClassHelper.make(words);
        for (MethodNode word : node.getMethods())
            for (Parameter given : word.getParameters())
                for (AnnotationNode options : List.copyOf(given.getAnnotations(ClassHelper.make(Dsl.Options.class))))
                    given.addAnnotation(named(options.getMember("value").getText()));
        return node;
    }

    private static AnnotationNode named(String options) {
        ListExpression all = new ListExpression();
        Pattern.compile("(\\w+): (\\w+)(!?)").matcher(options).results().forEach(option -> {
            AnnotationNode one = new AnnotationNode(ClassHelper.make(NamedParam.class));
            one.setMember("value", new ConstantExpression(option.group(1)));
            one.setMember("type", new ClassExpression(ClassHelper.make(OPTION_TYPES.get(option.group(2)))));
            one.setMember("required", new ConstantExpression(!option.group(3).isEmpty()));
            all.addExpression(new AnnotationConstantExpression(one));
        });
        AnnotationNode named = new AnnotationNode(ClassHelper.make(NamedParams.class));
        named.setMember("value", all);
        return named;
    }

    Map<String, byte[]> compile() {
        CompilerConfiguration how = new CompilerConfiguration();
        how.setTolerance(1000);
        how.getOptimizationOptions().put(CompilerConfiguration.INVOKEDYNAMIC, false);
        how.addCompilationCustomizers(new DslTransformer());
        ClassLoader ours = RulesCompiler.class.getClassLoader();
        CompilationUnit unit = new CompilationUnit(how, null, new GroovyClassLoader(ours, how));
        unit.addSource("rules.groovy", text);
        try {
            unit.compile(org.codehaus.groovy.control.Phases.CLASS_GENERATION); // the next phase would write files here
        } catch (MultipleCompilationErrorsException wrong) {
            throw ExitException.mistakes(mistakes(wrong.getErrorCollector().getErrors()));
        } catch (RuntimeException | StackOverflowError | OutOfMemoryError wrong) {
            throw ExitException.mistake(fileName + ": cannot be compiled: " + Text.plain(Text.thrown(wrong), 200));
        }
        if (!misplaced.isEmpty()) throw ExitException.mistakes(mistakes(List.of()));
        if (lean && !foreign) {
            Leaner leaner = new Leaner(unit.getClasses());
            Map<String, byte[]> classes = leaner.classes();
            if (leaner.fits) return classes;
        }
        if (lean) return new RulesCompiler(fileName, text, false).compile(); // once for an edit
        Map<String, byte[]> classes = new LinkedHashMap<>();
        unit.getClasses().forEach(type -> classes.put(type.getName(), type.getBytes()));
        return classes;
    }

    /** Compiled rules on {@link Lean}; they fit where they ask no more of Groovy's Closure than a block of ours has. */
    private static final class Leaner extends SimpleRemapper {
        private static final String CLOSURE = "groovy/lang/Closure";
        private final List<GroovyClass> compiled;
        private final Set<String> known = new HashSet<>(List.of("<init>", "call", "getOwner", "getThisObject",
            "getDelegate"));
        private boolean rules, fits = true;

        Leaner(List<GroovyClass> compiled) {
            super(Opcodes.ASM9, Map.of(CLOSURE, "Lean$Block", "groovy/lang/Reference", "Lean$Shared",
                "org/codehaus/groovy/runtime/ScriptBytecodeAdapter", "Lean$Adapter",
                "org/codehaus/groovy/runtime/powerassert/AssertionRenderer", "Lean$Adapter"));
            this.compiled = compiled;
            for (Method word : Dsl.RulesScript.class.getMethods()) known.add(word.getName());
        }

        Map<String, byte[]> classes() {
            for (GroovyClass type : compiled)
                new ClassReader(type.getBytes()).accept(new ClassVisitor(Opcodes.ASM9) {
                    @Override public MethodVisitor visitMethod(int way, String name, String d, String g, String[] t) {
                        known.add(name);
                        return null;
                    }
                }, ClassReader.SKIP_CODE);
            Map<String, byte[]> classes = new LinkedHashMap<>();
            for (GroovyClass type : compiled) {
                rules = type.getName().startsWith(RulesLoader.SCRIPT);
                ClassWriter lean = new ClassWriter(0);
                new ClassReader(type.getBytes()).accept(new ClassRemapper(lean, this), 0);
                classes.put(type.getName(), lean.toByteArray());
            }
            return classes;
        }

        @Override public String mapMethodName(String owner, String name, String takes) {
            boolean ours = owner.equals(CLOSURE) || owner.startsWith(RulesLoader.SCRIPT);
            fits &= ours ? known.contains(name) : !takes.contains(CLOSURE);
            return super.mapMethodName(owner, name, takes);
        }

        @Override public String mapFieldName(String owner, String name, String type) {
            fits &= !owner.equals(CLOSURE) && !(owner.equals(RulesLoader.SCRIPT) && name.startsWith("__$"));
            return super.mapFieldName(owner, name, type);
        }

        @Override public Object mapValue(Object constant) {
            fits &= !(constant instanceof groovyjarjarasm.asm.Type type && type.getInternalName().equals(CLOSURE));
            return super.mapValue(constant);
        }

        @Override public String map(String type) {
            fits &= !(rules && type.equals("groovy/lang/GroovyObject"));
            return super.map(type);
        }
    }

    private List<String> mistakes(List<?> errors) {
        TreeMap<String, String> sorted = new TreeMap<>();
        misplaced.forEach(at -> sorted.put(place(at), told(at)));
        for (Object error : errors)
            if (error instanceof SyntaxErrorMessage at) sorted.putIfAbsent(place(at.getCause()), told(at.getCause()));
            else sorted.put(":", fileName + ": " + Text.plain(error instanceof ExceptionMessage e
                ? Text.thrown(e.getCause()) : error.toString(), 200));
        owned.forEach((from, to) -> { // a block of an unknown word cannot be judged
            if (sorted.containsKey(from)) sorted.subMap(from, false, to, false).clear();
        });
        Set<String> clear = sorted.entrySet().stream().filter(e -> !e.getValue().contains(UNTYPED))
            .map(e -> e.getKey().split(":")[0]).collect(Collectors.toSet());
        sorted.entrySet().removeIf(e -> e.getValue().contains(UNTYPED) && clear.contains(e.getKey().split(":")[0]));
        return List.copyOf(new LinkedHashSet<>(sorted.values()));
    }

    private static String place(SyntaxException at) { return place(at.getStartLine(), at.getStartColumn()); }

    private static String place(int line, int column) { return String.format("%06d:%06d", line, column); }

    private String told(SyntaxException at) {
        int line = at.getStartLine(), column = at.getStartColumn();
        String quoted = line > 0 && line <= lines.size() ? lines.get(line - 1).replaceAll("\\p{Cntrl}", " ") : "";
        String caret = " ".repeat(Math.max(0, Math.min(column, quoted.length() + 1) - 1)) + "^";
        return fileName + ":" + line + ":" + column + ": " + plainly(at.getOriginalMessage(), line, column, quoted)
            + "\n    " + quoted + "\n    " + caret;
    }

    /** The type checker's sentences in the words of the rules: pattern by pattern, what is said instead. */
    private String plainly(String said, int line, int column, String quoted) {
        String message = said.replace("[Static type checking] - ", "").replace("#notifying(", "#notify(")
            .replace("#running(", "#run(").replaceAll("\\s*@ line \\d+, column \\d+\\.?", "").trim();
        Block block = blocks.stream().filter(b -> b.holds(line, column)).reduce((one, inner) -> inner)
            .orElse(new Block("the file", 0, 0, 0, 0));
        Map<String, Function<MatchResult, String>> instead = new LinkedHashMap<>();
        instead.put("Cannot find matching method ([^#]*)#(\\w+)\\((.*?)\\)\\..*", m -> m.group(1).equals("rules")
            ? wrongCall(m.group(2), m.group(3), block) : Text.type(m.group(1)) + " has no '" + m.group(2) + "'"
                + (TEXT.contains(m.group(2)) ? " with " + types(m.group(3)) : Text.didYouMean(m.group(2), TEXT))
                + (m.group(1).equals("java.lang.Object") ? UNTYPED : ""));
        instead.put("Cannot call ([\\w.]+)#compareTo\\(.*\\) with arguments \\[(.*)\\].*", m -> Text.type(m.group(1))
            + " cannot be compared with " + types(m.group(2)));
        instead.put("Cannot set read-only property: (\\w+).*",
            m -> "'" + m.group(1) + "' is compared by '==', not by '='");
        instead.put("The variable \\[(\\w+)\\] is undeclared\\.", m -> wrongName(m.group(1), block, quoted, column));
        instead.put("unexpected named arg: (\\w+)", m -> "no option '" + m.group(1) + "' here"
            + Text.didYouMean(m.group(1), options(block)));
        instead.put("required named param '(\\w+)' not found\\.",
            m -> "the option '" + m.group(1) + "' is missing; write " + m.group(1) + ": …");
        instead.put("argument for named param '(\\w+)' has type '(.*)' but expected '(.*)'\\.", m -> "the option '"
            + m.group(1) + "' takes " + Text.type(m.group(3)) + ", not " + Text.type(m.group(2)));
        instead.put("No such property: (\\w+) for class: (.*)", m -> UNITS.containsKey(m.group(1))
            ? "'" + m.group(1) + "' follows a plain number, as in 3." + m.group(1)
                + "; for a variable write Duration.ofSeconds(…)"
            : Text.type(m.group(2)) + " has no '" + m.group(1) + "'"
                + (m.group(2).matches(".*(Integer|BigDecimal)") ? Text.didYouMean(m.group(1), UNITS.keySet()) : ""));
        boolean end = line >= lines.size() && column >= quoted.length() || quoted.matches("[\\s})]+");
        instead.put("Unexpected (input|character): .*", m -> end ? "a { or ( or quote somewhere before is not closed"
            : message.matches(".*'.?['\"]'.*") ? "this quote is not closed"
            : "this is not Groovy: " + Text.plain(Text.lowerFirst(message), 60));
        for (var known : instead.entrySet()) {
            Matcher met = Pattern.compile(known.getKey(), Pattern.DOTALL).matcher(message);
            if (met.matches()) return known.getValue().apply(met);
        }
        return Text.lowerFirst(Text.plain(message, 200));
    }

    private String wrongCall(String word, String given, Block block) {
        List<String> takes = methods(block).filter(method -> nameOf(method).equals(word)).map(RulesCompiler::signature)
            .distinct().sorted(Comparator.comparing(String::length)).toList();
        if (takes.isEmpty()) return unknown(word, block);
        return "'" + word + "' does not take " + types(given) + "; it takes " + String.join(", or ", takes)
            + (given.matches(".*java.lang.Object.*|.* & .*") ? UNTYPED : "");
    }

    private static String types(String given) {
        String got = Arrays.stream(given.split(", (?![^<]*>)"))
            .filter(type -> !type.isEmpty() && !type.startsWith("java.util.LinkedHashMap"))
            .map(Text::type).collect(Collectors.joining(" and "));
        return got.isEmpty() ? "nothing" : got;
    }

    private static String signature(Method method) {
        Stream<String> values = Arrays.stream(method.getParameterTypes()).filter(type -> type != Map.class)
            .map(type -> Text.type(type.getName()));
        Stream<String> options = optionsOf(method).map(option -> option + ": …");
        return Stream.concat(values, options).collect(Collectors.joining(" and "));
    }

    private String wrongName(String word, Block block, String quoted, int column) {
        String rest = quoted.substring(Math.min(quoted.length(), column - 1 + word.length())).stripLeading();
        boolean known = words(block).contains(word);
        if (known && rest.matches("(?s)=[^=].*")) return "'" + word + "' is set without '=', as in: " + word + " …";
        if (known && !rest.startsWith("[")) return "'" + word + "' needs a value, as in: " + word + " …";
        if (known) return "a list goes into parentheses here: " + word + "(['…', '…'])";
        String said = unknown(word, block);
        boolean clear = said.contains("; did") || said.contains("belongs");
        return clear ? said : said + "; a text stands in quotes: '" + word + "'";
    }

    private String unknown(String word, Block block) {
        Set<String> here = words(block);
        for (String other : List.of("watch", "healthy", "restart", "the file"))
            if (!here.contains(word) && declared(VOCABULARY.get(other)).contains(word))
                return belongs(word, other, block.name());
        return "no such word '" + word + "' in " + block.name() + Text.didYouMean(word, here);
    }

    private static String belongs(String word, String there, String here) {
        String all = "'" + word + "' belongs in " + there + " { }, not in " + here + " { }";
        return all.replace("the file { }", "the file");
    }

    /** The words that fit into a block: its own and those of the top of the file. */
    private static Set<String> words(Block block) {
        Set<String> words = methods(block).map(RulesCompiler::nameOf).collect(Collectors.toCollection(TreeSet::new));
        classes(block).flatMap(c -> Arrays.stream(c.getFields())).map(Field::getName).forEach(words::add);
        return words;
    }

    private static Stream<Method> methods(Block block) {
        return classes(block).flatMap(RulesCompiler::vocabulary);
    }

    private static Stream<Class<?>> classes(Block block) {
        return Stream.<Class<?>>of(VOCABULARY.get(block.name()), Dsl.RulesScript.class).distinct();
    }

    private static Stream<Method> vocabulary(Class<?> words) {
        return Arrays.stream(words.getMethods()).filter(m -> m.getDeclaringClass().getEnclosingClass() == Dsl.class);
    }

    static Set<String> declared(Class<?> words) {
        return vocabulary(words).map(RulesCompiler::nameOf).collect(Collectors.toCollection(TreeSet::new));
    }

    private static String nameOf(Method method) {
        String name = method.getName().replace("notifying", "notify").replace("running", "run");
        return name.matches("get[A-Z].*") ? Text.lowerFirst(name.substring(3)) : name;
    }

    private static List<String> options(Block block) {
        return methods(block).flatMap(RulesCompiler::optionsOf).distinct().toList();
    }

    private static Stream<String> optionsOf(Method method) {
        return Arrays.stream(method.getParameters()).map(p -> p.getAnnotation(Dsl.Options.class))
            .filter(Objects::nonNull).flatMap(o -> Pattern.compile("\\w+(?=:)").matcher(o.value()).results())
            .map(MatchResult::group);
    }

    /**
     * What Groovy does not have, ahead of its type checker: the statements of healthy { } and when: { } become asserts,
     * 3.seconds a Duration, `when: { }` and `notify { }` calls that declare their words, and words with options get an
     * empty map where a line has none. Notes where each block stands.
     */
    private final class DslTransformer extends CompilationCustomizer {
        private static final Set<String> TAKE_OPTIONS = VOCABULARY.values().stream().flatMap(RulesCompiler::vocabulary)
            .filter(m -> m.getParameterCount() > 1 && m.getParameterTypes()[0] == Map.class).map(RulesCompiler::nameOf)
            .collect(Collectors.toSet());
        private static final Set<String> TEXTS = Set.of("body", "url", "protocol");
        private final Map<ClosureExpression, String> names = new IdentityHashMap<>();
        private String inside = "the file", asking;

        DslTransformer() { super(CompilePhase.CONVERSION); }

        @Override public void call(SourceUnit source, GeneratorContext context, ClassNode type) {
            type.addAnnotation(new AnnotationNode(ClassHelper.make(CompileStatic.class)));
            if (type.isScript()) plain(type);
            type.getMethods().forEach(DslTransformer::typed);
            new ClassCodeExpressionTransformer() {
                @Override protected SourceUnit getSourceUnit() { return source; }

                @Override public Expression transform(Expression e) {
                    if (e instanceof PropertyExpression p && duration(p) != null) return duration(p);
                    if (e instanceof ClosureExpression block) return within(block);
                    if (e instanceof MethodCallExpression call && call.isImplicitThis()) sweeten(call);
                    Expression inner = e == null ? null : super.transform(e);
                    return inner instanceof GStringExpression text ? plain(text) : inner;
                }

                /** `url: 'x'` is a label to Groovy, and would be silently nothing. */
                @Override public void visitBlockStatement(BlockStatement block) {
                    for (Statement line : block.getStatements()) {
                        if (line.getStatementLabels() == null || line instanceof LoopingStatement) continue;
                        String word = line.getStatementLabels().get(0);
                        wrong("'" + word + "' is written without ':', as in: " + word + " …", line);
                    }
                    super.visitBlockStatement(block);
                }

                private Expression within(ClosureExpression block) {
                    String around = inside;
                    foreign |= !names.containsKey(block);
                    inside = names.getOrDefault(block, inside);
                    block.getCode().visit(this);
                    inside = around;
                    return block;
                }
            }.visitClass(type);
        }

        /** The script becomes a class of plain Java with our words, in place of a groovy.lang.Script. */
        private void plain(ClassNode script) {
            script.setSuperClass(ClassHelper.make(Dsl.RulesScript.class));
            script.getDeclaredConstructors().clear();
            List.copyOf(script.getMethods("main")).forEach(script::removeMethod);
            if (lean) script.addAnnotation(new AnnotationNode(ClassHelper.make(POJO.class)));
        }

        /** A text with ${values} in it becomes a plain one at once. */
        private static Expression plain(GStringExpression text) {
            if (text.getValues().stream().anyMatch(ClosureExpression.class::isInstance)) return text; // "${-> later}"
            List<Expression> parts = new ArrayList<>();
            for (int i = 0; i < text.getStrings().size(); i++) {
                parts.add(text.getStrings().get(i));
                if (i < text.getValues().size()) parts.add(text.getValue(i));
            }
            return made(Lean.Adapter.class, "text", text, parts.toArray(new Expression[0]));
        }

        private static Expression made(Class<?> by, String method, Expression instead, Expression... of) {
            ClassNode maker = ClassHelper.make(by);
            Expression made = new StaticMethodCallExpression(maker, method, new ArgumentListExpression(of));
            made.setSourcePosition(instead);
            return made;
        }

        private void sweeten(MethodCallExpression call) {
            String word = call.getMethodAsString();
            if (!(call.getArguments() instanceof TupleExpression given)) return;
            List<Expression> arguments = given.getExpressions();
            misplaced(word, call, arguments.size());
            boolean named = !arguments.isEmpty() && arguments.get(0) instanceof MapExpression;
            for (Expression argument : arguments)
                if (argument instanceof ClosureExpression block) {
                    owned.put(place(call.getLineNumber(), call.getColumnNumber()),
                        place(block.getLastLineNumber(), block.getLastColumnNumber()));
                    if (VOCABULARY.containsKey(String.valueOf(word))) block(word, block);
                    if (Set.of("notify", "webhook").contains(String.valueOf(word))) names.put(block, inside);
                }
            if (named && "restart".equals(word))
                ((MapExpression) arguments.get(0)).getMapEntryExpressions().replaceAll(this::cause);
            if (inside.equals("restart") && Set.of("stop", "start", "run").contains(String.valueOf(word)))
                arguments.forEach(argument -> command(word, argument));
            if ("run".equals(word)) call.setMethod(new ConstantExpression("running")); // else Closure.run() is called
            if ("notify".equals(word)) {
                call.setMethod(new ConstantExpression("notifying")); // and here Object.notify()
                arguments.replaceAll(a -> a instanceof ClosureExpression ? called("closure", a) : a);
            }
            if (TAKE_OPTIONS.contains(word) && !named && call.getArguments() instanceof ArgumentListExpression list)
                list.getExpressions().add(0, new MapExpression());
        }

        private MapEntryExpression cause(MapEntryExpression entry) {
            if (!(entry.getValueExpression() instanceof ClosureExpression block)) return entry;
            if (!inside.equals("watch"))
                wrong("'when:' belongs to a restart in watch { }, as in: restart(when: { … }, name)", block);
            block("when", block);
            MapEntryExpression typed = new MapEntryExpression(entry.getKeyExpression(), called("cause", block));
            typed.setSourcePosition(entry); // without a place, a mistake here is not told
            return typed;
        }

        private void block(String word, ClosureExpression b) {
            names.put(b, word);
            blocks.add(new Block(word, b.getLineNumber(), b.getColumnNumber(),
                b.getLastLineNumber(), b.getLastColumnNumber()));
            if (word.equals("healthy") || word.equals("when")) {
                asking = word;
                List<Statement> lines = ((BlockStatement) b.getCode()).getStatements();
                if (lines.stream().allMatch(DslTransformer::declares))
                    wrong("no condition in " + word + " { }; one is status == 200", b);
                lines(b.getCode(), this::condition);
            }
            if (word.equals("restart")) lines(b.getCode(), this::plainly);
        }

        private Expression called(String method, Expression argument) {
            Expression self = new VariableExpression("this");
            MethodCallExpression call = new MethodCallExpression(self, method, new ArgumentListExpression(argument));
            call.setImplicitThis(true);
            call.setSourcePosition(argument);
            return call;
        }

        /** A word of an outer block would be found there, and mean something else than it says: url inside restart. */
        private void misplaced(String word, MethodCallExpression call, int values) {
            boolean ours = Set.of("cause", "closure", "plainly").contains(String.valueOf(word));
            if (word == null || inside.equals("the file") || ours) return;
            boolean known = declared(VOCABULARY.get(inside)).contains(word);
            boolean asks = Set.of("healthy", "when").contains(inside);
            String there = Set.of("watch", "heartbeat", "deadline", "path").contains(word) ? "the file"
                : !inside.equals("watch") && declared(Dsl.WatchSpec.class).contains(word) ? "watch" : null;
            if (known && asks && !(Set.of("header", "json").contains(word) && values == 1))
                wrong(compared(word, inside), call);
            if (!known && there != null) wrong(belongs(word, there, inside), call);
        }

        /** What cannot be split into words, or would stop too much, is found now and not when it is needed. */
        private void command(String word, Expression argument) {
            try {
                if (argument instanceof ConstantExpression text && text.getValue() instanceof String command) {
                    List<String> words = ShellWords.of(command);
                    if (word.equals("stop")) StopStep.refuseTooShort(words);
                }
            } catch (StepFailedException refused) {
                wrong(refused.getMessage(), argument);
            }
        }

        private static String compared(String word, String block) {
            return "'" + word + "' is compared in " + block + " { }, as in: " + word + " == …";
        }

        private void wrong(String why, ASTNode where) { misplaced.add(new SyntaxException(why, where)); }

        /** Every line of a block, also under if and for, with braces or without. */
        private static Statement lines(Statement code, Function<ExpressionStatement, Statement> change) {
            if (code instanceof BlockStatement block) block.getStatements().replaceAll(line -> lines(line, change));
            if (code instanceof LoopingStatement loop) loop.setLoopBlock(lines(loop.getLoopBlock(), change));
            if (code instanceof IfStatement choice) {
                choice.setIfBlock(lines(choice.getIfBlock(), change));
                choice.setElseBlock(lines(choice.getElseBlock(), change));
            }
            return code instanceof ExpressionStatement line && !declares(line) ? change.apply(line) : code;
        }

        private static boolean declares(Statement line) {
            return line instanceof ExpressionStatement e && e.getExpression() instanceof DeclarationExpression;
        }

        /** A line of a remedy that is no step is left out where it is only asked what the remedy would do. */
        private Statement plainly(ExpressionStatement line) {
            boolean step = line.getExpression() instanceof MethodCallExpression call && call.isImplicitThis()
                && declared(Dsl.RemedySpec.class).contains(String.valueOf(call.getMethodAsString()));
            if (step) return line;
            ClosureExpression own = new ClosureExpression(Parameter.EMPTY_ARRAY,
                new BlockStatement(new ArrayList<>(List.of(line)), new VariableScope()));
            names.put(own, "restart");
            return new ExpressionStatement(called("plainly", own));
        }

        private Statement condition(ExpressionStatement line) {
            Expression e = line.getExpression();
            if (e instanceof BinaryExpression b && b.getOperation().getText().equals("=")) return line;
            if (e instanceof ConstantExpression c && !(c.getValue() instanceof Boolean))
                wrong("this always holds; a condition compares, as in status == 200", c);
            if (e instanceof VariableExpression word && TEXTS.contains(word.getName()) || e.getText().equals("status"))
                wrong(compared(e.getText(), asking), e);
            if (e instanceof BinaryExpression b && b.getRightExpression() instanceof ConstantExpression c) {
                String word = b.getLeftExpression().getText();
                if (word.equals("status") && c.getValue() instanceof String quoted)
                    wrong("status is a whole number; write it without quotes: " + quoted, c);
                if (TEXTS.contains(word) && c.getValue() instanceof Number number)
                    wrong(word + " is text; write it in quotes: '" + number + "'", c);
            }
            BooleanExpression truth = new BooleanExpression(e);
            truth.setSourcePosition(e);
            AssertStatement condition = new AssertStatement(truth);
            condition.setSourcePosition(line);
            if (line.getStatementLabels() != null) line.getStatementLabels().forEach(condition::addStatementLabel);
            return condition;
        }

        private static Expression duration(PropertyExpression e) {
            Long nanos = UNITS.get(String.valueOf(e.getPropertyAsString()));
            if (nanos == null || !(e.getObjectExpression() instanceof ConstantExpression c)) return null;
            if (!(c.getValue() instanceof Number)) return null;
            BigDecimal all = new BigDecimal(c.getValue().toString()).multiply(BigDecimal.valueOf(nanos));
            long bounded = all.min(BigDecimal.valueOf(Long.MAX_VALUE)).longValue();
            return made(Duration.class, "ofNanos", e, new ConstantExpression(bounded, true));
        }

        /** `def name(…) { "…" }` returns text: without this the type checker would call it an Object. */
        private static void typed(MethodNode method) {
            if (!method.isDynamicReturnType() || !(method.getCode() instanceof BlockStatement body)) return;
            Statement last = body.isEmpty() ? body : body.getStatements().get(body.getStatements().size() - 1);
            Expression value = last instanceof ReturnStatement r ? r.getExpression()
                : last instanceof ExpressionStatement s ? s.getExpression() : null;
            boolean text = value instanceof ConstantExpression c && c.getValue() instanceof String;
            if (text || value instanceof GStringExpression) method.setReturnType(ClassHelper.STRING_TYPE);
        }
    }
}

/**
 * What compiled rules run on in place of Groovy's runtime. Making a single Closure would start all of that, which is a
 * third of a healthy pass. A file with a block for Groovy itself, as in list.each { }, is left as Groovy made it.
 */
interface Lean {
    /** Runs a block of the rules with these words as its own; the block itself is shared and stays as it is. */
    static void apply(Callable<?> block, Object words) throws Exception {
        if (block instanceof Closure<?> groovy) {
            Closure<?> own = groovy.rehydrate(words, groovy.getOwner(), groovy.getThisObject());
            own.setResolveStrategy(Closure.DELEGATE_FIRST);
            own.call();
        } else ((Block) block).with(words).call();
    }

    /** A block, in place of a Closure; with a value, as notify { event -> … } gets it, it is a function. */
    abstract class Block implements Callable<Object>, Function<Object, Object>, Consumer<Object>, Cloneable {
        private final Object owner, script;
        private Object words;

        public Block(Object owner, Object script) {
            this.owner = owner;
            this.script = script;
        }

        @Override public void accept(Object value) { apply(value); }
        @Override public Object apply(Object value) {
            try { // by reflection, since its parameter is of the type that the block declares
                return Stream.of(getClass().getMethods()).filter(m -> m.getName().equals("call"))
                    .filter(m -> m.getParameterCount() == 1).findFirst().orElseThrow().invoke(this, value);
            } catch (InvocationTargetException thrown) {
                throw new UndeclaredThrowableException(thrown.getCause());
            } catch (IllegalAccessException e) {
                throw new IllegalStateException(e);
            }
        }

        public Object getOwner() { return owner; }
        public Object getThisObject() { return script; }
        public Object getDelegate() { return words; }

        Block with(Object words) {
            try {
                Block own = (Block) clone();
                own.words = words;
                return own;
            } catch (CloneNotSupportedException e) {
                throw new AssertionError(e);
            }
        }
    }

    /** A variable that blocks share, in place of a Reference. */
    final class Shared {
        private Object value;

        public Shared(Object value) { this.value = value; }

        public Object get() { return value; }
        public void set(Object value) { this.value = value; }
    }

    /** What compiled code calls, in place of Groovy's own of the same names. */
    final class Adapter extends ScriptBytecodeAdapter {
        public static String render(String condition, ValueRecorder met) {
            throw new FailedCondition(condition, met.getValues());
        }

        public static List<Object> createList(Object[] values) { return new ArrayList<>(Arrays.asList(values)); }

        public static Map<?, ?> createMap(Object[] pairs) {
            Map<Object, Object> map = new LinkedHashMap<>();
            for (int i = 0; i < pairs.length; i += 2) {
                if (pairs[i] instanceof SpreadMap) return ScriptBytecodeAdapter.createMap(pairs); // [*: more]
                map.put(pairs[i], pairs[i + 1]);
            }
            return map;
        }

        /** What the compiler makes of "…$value…". */
        public static String text(Object... parts) {
            StringBuilder text = new StringBuilder();
            for (Object part : parts) {
                Object value = part instanceof Closure<?> later ? later.call() : part;
                boolean many = value instanceof Collection || value instanceof Map
                    || value != null && value.getClass().isArray();
                text.append(many ? FormatHelper.toString(value) : value);
            }
            return text.toString();
        }
    }

    /** A condition that does not hold, with the values it met; Groovy draws them only for those who want to look. */
    final class FailedCondition extends AssertionError {
        private final transient List<Value> met;

        FailedCondition(String condition, List<Value> met) {
            super(condition);
            this.met = List.copyOf(met);
        }

        String diagram() {
            ValueRecorder recorder = new ValueRecorder();
            for (Value one : met)
                recorder.record(one.getValue() instanceof Duration time ? Text.time(time) : one.getValue(),
                    one.getColumn());
            return AssertionRenderer.render(getMessage(), recorder);
        }
    }
}

/** Compiled rules on disk: keyed by the text and by what compiled it, verified before they are loaded, pruned. */
final class CompiledRulesCache {
    final Path folder;

    CompiledRulesCache(Path folder) { this.folder = folder; }

    String key(String text) { return hash(text + maker()); }

    /** Which build of watchdog, with which Java: a class file of another one must not be loaded. */
    private static String maker() {
        try {
            return watchdog.VERSION + build() + Files.getLastModifiedTime(build()).toMillis() + Runtime.version();
        } catch (URISyntaxException | IOException e) {
            return watchdog.VERSION + Runtime.version();
        }
    }

    /** The jar that this program runs from. */
    private static Path build() throws URISyntaxException {
        return Path.of(watchdog.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    }

    /**
     * A jar that is built anew leaves JBang's archive of classes behind, which Java then ignores without a word: twice
     * the work in every pass from then on. Where it is gone, JBang writes a new one.
     */
    private static void dropStaleArchive() throws URISyntaxException, IOException {
        Path jar = build(), archive = jar.resolveSibling(jar.getFileName().toString().replaceFirst("\\.jar$", ".jsa"));
        if (!Files.exists(archive) || archive.equals(jar)) return;
        if (Files.getLastModifiedTime(archive).compareTo(Files.getLastModifiedTime(jar)) < 0) Files.delete(archive);
    }

    /** null: not compiled yet, or the file is not what was written. */
    Map<String, byte[]> get(String key) {
        try {
            byte[] all = Files.readAllBytes(folder.resolve(key));
            byte[] content = Arrays.copyOfRange(all, 32, all.length);
            if (!Arrays.equals(digest(content), Arrays.copyOf(all, 32))) return null;
            var in = new java.io.DataInputStream(new java.io.ByteArrayInputStream(content));
            Map<String, byte[]> classes = new LinkedHashMap<>();
            for (int left = in.readInt(); left > 0; left--) classes.put(in.readUTF(), in.readNBytes(in.readInt()));
            return classes;
        } catch (IOException | RuntimeException unusable) {
            return null;
        }
    }

    void put(String key, Map<String, byte[]> classes) {
        var bytes = new java.io.ByteArrayOutputStream();
        try (var out = new java.io.DataOutputStream(bytes)) {
            out.writeInt(classes.size());
            for (var type : classes.entrySet()) {
                out.writeUTF(type.getKey());
                out.writeInt(type.getValue().length);
                out.write(type.getValue());
            }
            byte[] content = bytes.toByteArray();
            bytes.reset();
            bytes.write(digest(content));
            bytes.write(content);
            SecureFiles.folder(folder);
            SecureFiles.write(folder.resolve(key), bytes.toByteArray());
            dropStaleArchive();
        } catch (IOException | URISyntaxException e) {
            return; // the next pass compiles again: slower, not wrong
        }
        SecureFiles.sweep(folder, name -> !Set.of(key, "last-good.groovy").contains(name));
    }

    /** The text itself is kept, so that an edit that does not compile leaves something to watch with. */
    void good(String text) {
        Path last = folder.resolve("last-good.groovy");
        try {
            if (!Files.exists(last) || !Files.readString(last).equals(text)) SecureFiles.write(last, text);
        } catch (IOException e) {
            return; // the rules are good now; if they break later, that pass says that there are none to fall back to
        }
    }

    String lastGood() {
        try {
            return Files.readString(folder.resolve("last-good.groovy"));
        } catch (IOException none) {
            return null;
        }
    }

    static String hash(String text) { return HexFormat.of().formatHex(digest(text.getBytes(StandardCharsets.UTF_8))); }

    private static byte[] digest(byte[] bytes) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}

/** Values that nobody may see: from the environment, else from rules.secrets beside rules.groovy. */
final class Secrets {
    private final Map<String, String> env;
    private final Path file;
    private final Set<String> hidden = Collections.synchronizedSet(new TreeSet<>( // the longest first
        Comparator.comparing(String::length).reversed().thenComparing(Comparator.naturalOrder())));
    private Map<String, String> fromFile;
    private String refused = "", odd = "";

    Secrets(Map<String, String> env, Path rules) {
        this.env = env;
        this.file = rules.resolveSibling(rules.getFileName().toString().replaceFirst("\\.groovy$", "") + ".secrets");
    }

    /** The value, or a mark that stands for a missing one, so that the rest of the rules still works. */
    String get(String name) {
        String value = env.getOrDefault(name, "");
        if (value.isEmpty()) value = file().getOrDefault(name, "");
        if (value.isEmpty()) return MissingSecretException.mark(name);
        hide(value);
        return value;
    }

    String whereToPut(String name) {
        if (!refused.isEmpty()) return refused;
        return odd + "put " + name + "=… into " + file + " (chmod 600) or into the environment";
    }

    private Map<String, String> file() {
        if (fromFile != null) return fromFile;
        fromFile = new HashMap<>();
        if (!Files.exists(file)) return fromFile;
        try {
            String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
            if (!mode.endsWith("------")) refused = file + " can be read by others; chmod 600 " + file + " mends that";
            else for (String line : Files.readAllLines(file))
                if (line.matches("\\s*\\w+\\s*=.*"))
                    fromFile.put(line.substring(0, line.indexOf('=')).trim(), unquoted(line));
                else if (!line.matches("\\s*(#.*)?")) odd = "a line of " + file + " is not NAME=value; ";
        } catch (IOException e) {
            refused = "cannot read " + file + ": " + Text.thrown(e);
        }
        return fromFile;
    }

    private static String unquoted(String line) {
        String value = line.substring(line.indexOf('=') + 1).trim();
        return value.matches("(?s)'.*'|\".*\"") && value.length() > 1 ? value.substring(1, value.length() - 1) : value;
    }

    /** Also as it stands in a URL and in JSON. */
    void hide(String value) {
        String json = JsonOutput.toJson(value), encoded = URLEncoder.encode(value, StandardCharsets.UTF_8);
        String url = String.valueOf(HttpUrl.parse("http://x/?" + value)).replaceFirst("http://x/\\??", "");
        for (String shape : List.of(value, json.substring(1, json.length() - 1), encoded, url))
            if (value.length() > 2 && shape.length() > 2) hidden.add(shape);
    }

    String mask(String text) {
        String masked = text;
        for (String value : hidden) {
            masked = masked.replace(value, "***");
            for (String end : List.of("…", "\\u2026")) // the second is how JSON writes the first
                for (int cut = value.length() - 1; cut > 3 && masked.contains(end); cut--)
                    masked = masked.replace(value.substring(0, cut) + end, "***" + end);
        }
        return masked;
    }
}

/** Thrown where a value is needed that `secret` did not find. */
final class MissingSecretException extends RuntimeException {
    private static final Pattern MARK = Pattern.compile("\uE000(\\w*)\uE001");

    MissingSecretException(String name) { super("the secret " + name + " is missing", null, false, false); }

    static String mark(String name) { return "\uE000" + name.replaceAll("\\W", "_") + "\uE001"; }

    static String in(String text) {
        var found = MARK.matcher(text);
        return found.find() ? found.group(1) : null;
    }

    static String blanked(String text) { return MARK.matcher(text).replaceAll("missing"); }

    static void check(String text) {
        if (in(text) != null) throw new MissingSecretException(in(text));
    }
}

/** A command line as a list of words, split as a shell would split it; nothing in it is expanded. */
final class ShellWords {
    static List<String> of(String command) {
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
            else if (c == '\\' && quote != '\'' && i + 1 < command.length()) word.append(command.charAt(++i));
            else word.append(c);
        }
        if (quote != 0)
            throw new StepFailedException("the command \"" + Text.plain(command, 80) + "\" has a quote that is not closed");
        if (word != null) words.add(word.toString());
        return of(words);
    }

    /** The words of a list, which may be numbers and "texts with a $value" too. */
    static List<String> of(List<?> list) {
        List<String> words = list.stream().map(String::valueOf).toList();
        if (words.isEmpty() || words.get(0).isBlank())
            throw new StepFailedException("a command is empty; it needs a program, such as 'cloudflared tunnel run'");
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
        return spared ? SecureFiles.tried(() -> SecureFiles.spareFolder(folder).resolve("memory.json"), notOurs -> file) : file;
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
        Dsl.Event e = letter.event();
        String title = secrets.mask(e.title()), text = secrets.mask(e.text());
        Dsl.Event masked = new Dsl.Event(e.kind(), e.watch(), title, text, e.at(), e.since());
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
        SecureFiles.tried(() -> SecureFiles.write(folder.resolve("memory.json"), text), e -> warnings.add("the memory cannot be "
            + "written (" + Text.thrown(e) + "), so the restart budget may not hold; " + spare(text)));
    }

    private String spare(String text) {
        return SecureFiles.tried(() -> {
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
        if (writable) SecureFiles.tried(() -> keep(fileOf("evidence", name + ".txt"), secrets.mask(text)),
            e -> warnings.add("the answer of " + name + " cannot be kept: " + Text.thrown(e)));
    }

    /** A file's name is 255 bytes at most, and a temporary one beside it has a longer one. */
    private Path fileOf(String kind, String name) {
        String safe = URLEncoder.encode(name, StandardCharsets.UTF_8);
        return folder.resolve(kind).resolve(safe.length() < 200 ? safe : CompiledRulesCache.hash(name));
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
        return SecureFiles.tried(() -> Files.readAllLines(ascii, StandardCharsets.ISO_8859_1),
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
    static <T> T tried(IOSupplier<T> deed, Function<Exception, T> otherwise) {
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
        Path ours = all.resolve(name + "-" + CompiledRulesCache.hash(file.toString()).substring(0, 8));
        return SecureFiles.tried(() -> SecureFiles.folder(ours), unusable -> {
            memoryLost = true;
            warn("cannot use " + ours + " (" + Text.thrown(unusable) + "); this pass remembers under the "
                + "temp folder, so the restart budget may not hold");
            return need("there is no folder to remember in", () -> SecureFiles.spareFolder(ours));
        });
    }

    private static <T> T need(String failed, SecureFiles.IOSupplier<T> deed) {
        return SecureFiles.tried(deed, e -> { throw ExitException.broken("watchdog: " + failed + ": " + Text.thrown(e)); });
    }

    /** With an edit that does not compile, the last good rules still watch. */
    private Rules open(boolean writable) {
        CompiledRulesCache cache = new CompiledRulesCache(folder.resolve("compiled"));
        RulesLoader given = new RulesLoader(file, world, secrets);
        String text = "";
        try {
            text = given.read();
            Rules good = given.load(text, cache);
            return open(good, "", good.complaints(), writable);
        } catch (ExitException mistakes) {
            String last = cache.lastGood();
            if (last == null || mistakes.exit != 2) throw mistakes;
            List<String> all = new ArrayList<>(mistakes.lines);
            all.add("watchdog: these rules cannot be used, so the last good ones still watch");
            Rules good = new RulesLoader(file, world, secrets).load(last, new CompiledRulesCache(folder.resolve("last-good")));
            return open(good, CompiledRulesCache.hash(text), all, writable);
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
            List<Watch> watches = open(!options.dryRun).named(names);
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
            courier.post(new Dsl.Event(Dsl.EventKind.rules_broken, name, name + " has mistakes",
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

    int check(List<String> names) { return look(open(false).named(names)); }

    int checkUrl(String url, List<String> conditions) {
        options.verbose = true;
        refuse(conditions.stream().anyMatch(String::isBlank), "a condition is empty; one is 'status == 200'");
        String quoted = "'" + url.replace("\\", "\\\\").replace("'", "\\'") + "'";
        String text = "watch(" + quoted + ") { url " + quoted + "; attempts 1; "
            + (conditions.isEmpty() ? "" : "healthy {\n" + String.join("\n", conditions) + "\n}") + "}";
        try {
            RulesLoader oneOff = new RulesLoader(Path.of("condition"), world, secrets);
            Rules one = oneOff.load(text, new CompiledRulesCache(folder.resolve("one-off")));
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
        RulesLoader given = new RulesLoader(file, world, secrets);
        rules = given.load(given.read(), null);
        complaints = new ArrayList<>(rules.complaints());
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
        String needs = watch.needs().isEmpty() ? "" : ", needs " + Text.list(watch.needs());
        detail(watch.name() + ": " + watch.probe().inWords() + needs + "; up to "
            + Text.count(patience.attempts(), "attempt") + " of " + Text.time(patience.timeout()));
        for (Dsl.Remedy remedy : watch.remedies()) {
            detail("    restart" + (remedy.when() == null ? "" : " for its cause") + ": " + remedy.inWords());
            String secret = MissingSecretException.in(remedy.inWords());
            if (secret != null) complaints.add(file.getFileName() + ": " + watch.name() + ": the secret " + secret
                + " is missing, so its restart would fail; " + secrets.whereToPut(secret));
            for (Step step : remedy.planned()) find(watch, step.inWords(), step.program());
        }
        if (watch.probe() instanceof CommandProbe probe) find(watch, probe.inWords(), probe.words());
        for (Dsl.Hook hook : watch.hooks())
            if (hook.sender() instanceof HookProviders.Command command) find(watch, "notify command", command.words());
        if (!watch.remedies().isEmpty()) detail("    at most " + policy.limit() + " per " + Text.time(policy.per())
            + ", after " + Text.count(policy.failures(), "unhealthy pass", "unhealthy passes")
            + ", healthy within " + Text.time(policy.within()));
        String hooks = Text.list(watch.hooks().stream().map(Dsl.Hook::label).toList());
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
        List<Status> all = open(false).named(names).stream().map(this::status).toList();
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
        String known = open(false).one(name).name();
        Instant until = time == null ? Text.ALWAYS : world.now().plus(time);
        need("cannot remember the pause", () -> notebook.pause(known, until));
        say(name + " is paused " + Text.until(until) + "; `watchdog resume " + name + "` ends it");
        return 0;
    }

    int resume(String name) {
        String known = open(false).one(name).name();
        boolean was = need("cannot end the pause", () -> notebook.resume(known));
        say(name + (was ? " is watched again" : " was not paused"));
        return 0;
    }

    int tell(String name) {
        var own = name == null ? open(false).hooks() : open(false).one(name).hooks();
        List<Dsl.Hook> hooks = own.stream().flatMap(hook -> Stream.of(hook, hook.orElse()))
            .filter(Objects::nonNull).distinct().toList();
        Dsl.Event test = new Dsl.Event(Dsl.EventKind.test, name == null ? "watchdog" : name, "test from watchdog",
            "If you can read this, this hook works.", world.now(), world.now());
        int exit = complaints.isEmpty() ? 0 : 2;
        for (Dsl.Hook hook : hooks) {
            DeliveryResult delivery = courier.attempt(hook, test);
            say(hook.label() + ": " + delivery.text());
            if (!delivery.taken()) exit = ExitException.gravest(exit, 1);
        }
        if (hooks.isEmpty()) say("there is no hook to tell" + (name == null ? "" : " for " + name));
        complaints.forEach(this::complain);
        return exit;
    }

    int drill(String name, boolean yes) {
        Watch watch = open(false).one(name);
        List<Step> stops = watch.remedies().stream().flatMap(remedy -> remedy.planned().stream())
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
        BooleanSupplier healthy = () -> looker.checkOnce(List.of(watch)).get(watch).verdict() instanceof Healthy;
        String name = watch.name();
        long began = System.nanoTime();
        refuse(!(looker.checkAll(List.of(watch)).get(watch).verdict() instanceof Healthy),
            name + " is not healthy now; a drill begins with a healthy service");
        timeline(began, name + " is healthy");
        RestartRun stopping = new RestartRun();
        try {
            stops.forEach(stop -> stop.run(hands, stopping));
        } catch (StepFailedException failed) {
            throw ExitException.mistake("watchdog: the drill could not stop " + name + ": " + failed.getMessage());
        }
        timeline(began, stopping.summary());
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

    /** JBang is asked once where everything is; the script that is written needs it no more until something changes. */
    int launcher(Path to, String reference) {
        try {
            if (Files.exists(to) && !Files.readString(to).contains("Written by `watchdog launcher`"))
                throw new StepFailedException(to + " is there already and is no launcher");
            String script = launcher(reference);
            Files.createDirectories(to.toAbsolutePath().getParent());
            SecureFiles.write(to, script);
            Files.setPosixFilePermissions(to, PosixFilePermissions.fromString("rwxr-xr-x"));
        } catch (IOException | RuntimeException wrong) {
            throw ExitException.mistake("watchdog: cannot write a launcher: " + Text.plain(Text.thrown(wrong), 300));
        }
        say("wrote " + to + "; cron may call it in place of `jbang --offline " + reference + "`");
        return 0;
    }

    private String launcher(String reference) throws IOException {
        Deadline deadline = Deadline.in(Duration.ofMinutes(2));
        CommandRunner hands = new CommandRunner(world.cwd(), folder, List.of(), world.env(), deadline, this::progress);
        Path jbang = hands.resolve(List.of(world.env().getOrDefault("JBANG_LAUNCH_CMD", "jbang"))).toRealPath();
        List<String> question = List.of(jbang.toString(), "--quiet", "--offline", "info", "tools", reference);
        CommandResult ran = hands.run(question, Duration.ofMinutes(1), Map.of());
        if (ran.exit() != 0) throw new StepFailedException("jbang does not know '" + reference + "'" + ran.lastWords());
        Map<?, ?> is = (Map<?, ?>) new JsonSlurper().parseText(ran.output().substring(ran.output().indexOf('{')));
        return LAUNCHER.formatted(quoted(jbang), quoted(reference), quoted(is.get("availableJdkPath")),
            quoted(is.get("backingResource")), quoted(is.get("applicationJar")),
            quoted(is.get("resolvedDependencies"), ":"), quoted(is.get("runtimeOptions"), " "));
    }

    private static String quoted(Object word) { return "'" + word.toString().replace("'", "'\\''") + "'"; }

    private static String quoted(Object words, String between) {
        return ((List<?>) words).stream().map(Commands::quoted).collect(Collectors.joining(between));
    }

    private static final String LAUNCHER = """
        #!/bin/sh
        # watchdog by Java alone, without JBang's own start. Written by `watchdog launcher`; it writes itself anew.
        # shellcheck disable=SC3013 # every sh that is alive has -nt
        jbang=%s from=%s java=%s
        source=%s
        jar=%s
        classpath=$jar:%s
        export JBANG_LAUNCH_CMD="$jbang"
        by_jbang() {
            "$jbang" --quiet --offline "$from" launcher "$0" --from "$from" >/dev/null 2>&1
            exec "$jbang" --offline "$from" "$@"
        }
        # Anything is gone (JBang's cache was cleaned, Java moved), or the script is newer than this file.
        IFS=:
        for file in "$java/bin/java" "$source" $classpath; do [ -f "$file" ] || by_jbang "$@"; done
        unset IFS
        [ "$source" -nt "$0" ] && by_jbang "$@"
        # The archive of classes belongs to one build of Java; it goes with JBang's cache.
        archive="${jar%%.jar}-launcher.jsa" use=SharedArchiveFile
        [ "$archive" -nt "$jar" ] && [ "$archive" -nt "$java/release" ] || use=ArchiveClassesAtExit
        exec "$java/bin/java" %s "-XX:$use=$archive" -cp "$classpath" watchdog "$@"
        """;

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
        if (o.verdict() instanceof Unhealthy bad && bad.failed() != null) text += "\n" + Text.diagram(bad.failed());
        Map<String, Duration> phases = o.look.answer().phases();
        return phases.isEmpty() ? text : text + "\n    " + phases.entrySet().stream()
            .map(phase -> phase.getKey() + " " + Text.time(phase.getValue())).collect(Collectors.joining(", "));
    }

    private static String what(WatchResult o) {
        String reason = o.verdict().reason(), why = o.decision.why();
        if (o.healed) return "in " + Text.time(o.took) + ": " + o.was + "; " + o.done;
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
        return name.matches("IO.*|IllegalStateException|(StepFailed|MissingSecret)Exception") ? message : name + ": " + message;
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
    static String diagram(AssertionError failed) {
        String drawn = failed instanceof Lean.FailedCondition unmet ? unmet.diagram() : String.valueOf(failed.getMessage());
        return drawn.replaceAll("[\\p{Cntrl}\\p{Cf}&&[^\r\n]]", "?").lines().limit(14)
            .map(line -> "    " + cut(line.replaceFirst("^(assert|      ) ?", ""), 110))
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

    static String type(String java) {
        if (java.contains(" & ")) return "a value of unknown type";
        return switch (java.replaceAll("<.*", "").replaceAll(".*[.$]", "")) {
            case "String", "GString" -> "text";
            case "int", "Integer", "long", "Long" -> "a whole number";
            case "BigDecimal", "double" -> "a number";
            case "Duration" -> "a time such as 10.seconds";
            case "Closure", "Callable", "Function", "Consumer" -> "a block { … }";
            case "List", "ArrayList" -> "a list";
            case "Map", "LinkedHashMap" -> "options";
            case "boolean", "Boolean" -> "true or false";
            case "Object" -> "a value of unknown type";
            case "Hook" -> "a hook such as pushover(…)";
            case "Remedy" -> "a remedy, as restart { … } makes one";
            case "String;" -> "texts";
            default -> "a " + java.replaceAll("<.*", "").replaceAll(".*[.$]", "");
        };
    }

    /** Groovy's distance counts 10 for a letter too many, missing or wrong, and 5 for two that changed places. */
    static String didYouMean(String word, Collection<String> known) {
        int most = word.isEmpty() ? 0 : 10 * Math.max(1, word.length() / 3);
        return known.stream().filter(k -> !k.isEmpty() && MethodRankHelper.delDistance(word, k) <= most)
            .min(Comparator.comparingInt(k -> MethodRankHelper.delDistance(word, k)))
            .map(near -> "; did you mean '" + near + "'?").orElse("");
    }
}
