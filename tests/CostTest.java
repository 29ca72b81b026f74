import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A pass that finds all well, 105,000 times a year: what it does not do. No clock is in here; tests/bench has them. */
class CostTest {
    private static final int SIDE_BY_SIDE = 64;
    /** Compiling and nothing else; the two exceptions only stand in signatures of Groovy's runtime and do nothing. */
    private static final Predicate<String> COMPILES = name ->
        Pattern.matches("org\\.codehaus\\.groovy\\.(control|antlr)\\..*|org\\.apache\\.groovy\\.parser\\..*|groovyjarjarantlr4?\\..*|groovyjarjarasm\\..*|RulesCompiler(\\$.*)?", name)
            && !Set.of("org.codehaus.groovy.control.CompilationFailedException", "groovyjarjarasm.asm.ClassVisitor").contains(name);
    private static final Predicate<String> HEALS = name -> Pattern.matches(
        "java\\.lang\\.ProcessBuilder(\\$.*)?|ProcessStopper(\\$.*)?|RestartRun(\\$.*)?|CommandResult|MessageText(\\$.*)?"
            + "|org\\.codehaus\\.groovy\\.runtime\\.powerassert\\.AssertionRenderer", name);

    /** Groovy's runtime, which any groovy.lang.Closure, Script or GString would start, and the parser of command lines. */
    private static final Predicate<String> STARTS = name -> Pattern.matches(
        "groovy\\.lang\\.(GroovySystem|MetaClassRegistry.*|ExpandoMetaClass.*)|org\\.codehaus\\.groovy\\.(reflection|vmplugin)\\..*"
            + "|org\\.codehaus\\.groovy\\.runtime\\.metaclass\\..*|picocli\\.CommandLine(\\$(Model|Interpreter).*)?", name)
            && !Set.of("org.codehaus.groovy.reflection.ClassInfo").contains(name); // in signatures only

    @TempDir
    private Path folder;

    @Test
    void aWarmHealthyPassLoadsNothingThatCompilesOrHeals() throws Exception {
        try (Service service = service("it")) {
            rules(service, "ok");
            pass();
            Set<String> warm = pass();
            assertTrue(warm.contains("watchdog") && warm.contains("HttpProbe") && warm.contains("okhttp3.OkHttpClient"), "the log has no classes");
            assertEquals(List.of(), warm.stream().filter(COMPILES.or(HEALS)).toList());
        }
    }

    @Test
    void aWarmHealthyPassStartsNeitherGroovysRuntimeNorPicocli() throws Exception {
        try (Service service = service("it")) {
            rules(service, "ok");
            pass();
            assertEquals(List.of(), pass().stream().filter(STARTS).toList());
        }
    }

    /** The law above names real classes; and rules with a block that is not one of ours still run, by Groovy's runtime. */
    @Test
    void rulesWithABlockForGroovyItselfStartItsRuntime() throws Exception {
        try (Service service = service("it")) {
            Files.writeString(folder.resolve("rules.groovy"), """
                ['a', 'b'].each { name -> watch("it-$name") { url '%s' } }
                """.formatted(service.url()));
            pass();
            assertTrue(pass().containsAll(Set.of("groovy.lang.GroovySystem", "org.codehaus.groovy.runtime.metaclass.MetaClassRegistryImpl")));
        }
    }

    /** What the law above looks for is there when there is something to heal: it names real classes. */
    @Test
    void aPassThatHealsLoadsWhatHeals() throws Exception {
        try (Service service = service("it")) {
            rules(service, "ok");
            pass();
            service.stop();
            Set<String> healing = pass();
            assertTrue(service.up());
            assertTrue(healing.containsAll(Set.of("java.lang.ProcessBuilder", "RestartRun", "MessageText")), healing.stream().filter(HEALS).toList().toString());
            assertEquals(List.of(), healing.stream().filter(name -> name.startsWith("groovyjarjarantlr4.")).toList(), "it parsed something");
        }
    }

    @Test
    void anEditIsCompiledOnceByTheNextPass() throws Exception {
        try (Service service = service("it")) {
            rules(service, "ok");
            pass();
            rules(service, "o");
            Set<String> edited = pass();
            assertTrue(edited.contains("org.codehaus.groovy.control.CompilationUnit"));
            assertTrue(edited.stream().anyMatch(name -> name.startsWith("groovyjarjarantlr4.")));
            assertEquals(List.of(), pass().stream().filter(COMPILES).toList());
        }
    }

    @Test
    void aHealthyPassWritesOneLineOfHistoryAndNothingElse() throws Exception {
        try (Service service = service("it")) {
            rules(service, "ok");
            Run.Desk desk = new Run.Desk(folder);
            assertEquals(0, desk.watchdog().exit());
            assertEquals(0, desk.watchdog().exit());
            Path history = desk.state().resolve("history.jsonl");
            Map<String, String> before = files();
            List<String> lines = Files.readAllLines(history);
            assertEquals(0, desk.watchdog().exit());
            Map<String, String> after = files();
            assertEquals(before.keySet(), after.keySet());
            assertEquals(List.of(folder.relativize(history).toString()),
                after.keySet().stream().filter(file -> !after.get(file).equals(before.get(file))).toList());
            assertEquals(lines.size() + 1, Files.readAllLines(history).size());
            assertEquals(lines, Files.readAllLines(history).subList(0, lines.size()));
        }
    }

    /** For the deadline, the check, and its request; fewer where an earlier pass of this JVM left idle ones. */
    @Test
    void onePassOverOneServiceHasAtMostThreeThreadsOfItsOwn() throws Exception {
        Crowd crowd = threadsOver(1);
        assertTrue(crowd.threads.get("watchdog") <= 3, crowd.threads.toString());
        assertEquals(Set.of("watchdog"), crowd.strangers(), crowd.threads.toString());
    }

    @Test
    void twoHundredServicesAreLookedAtBySixtyFourAtATime() throws Exception {
        Crowd crowd = threadsOver(200);
        assertEquals(SIDE_BY_SIDE, crowd.most);
        int idle = 4; // of a thread pool, before they are used again
        assertTrue(crowd.threads.get("watchdog") <= 1 + 2 * SIDE_BY_SIDE + idle, crowd.threads.toString());
        assertEquals(Set.of("watchdog"), crowd.strangers(), crowd.threads.toString());
    }

    /** Whoever runs it next year gets the same program: versions are exact, and JBang knows how to start it cheaply. */
    @Test
    void theHeaderNamesExactVersionsAndACheapStart() throws IOException {
        List<String> header = Files.readAllLines(Path.of("watchdog.java")).stream().takeWhile(line -> line.startsWith("//")).toList();
        List<String> deps = header.stream().filter(line -> line.startsWith("//DEPS ")).toList();
        assertFalse(deps.isEmpty());
        for (String dep : deps) assertTrue(dep.matches("//DEPS [\\w.-]+:[\\w.-]+:\\d+(\\.\\d+)+"), dep);
        assertTrue(header.contains("//CDS"), header.toString());
        String options = header.stream().filter(line -> line.startsWith("//RUNTIME_OPTIONS ")).collect(Collectors.joining());
        for (String option : List.of("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx", "-Xshare:auto"))
            assertTrue(options.contains(option), options);
    }

    private Service service(String name) {
        Service service = new Service(folder, name);
        service.start();
        return service;
    }

    private void rules(Service service, String word) throws IOException {
        Files.writeString(folder.resolve("rules.groovy"), """
            def base = '%s', port = %d
            int looks = 1
            def touch = restart { sh 'touch it.up' }
            path '/opt/homebrew/bin'
            watch('port') { tcp "127.0.0.1:$port"; attempts 1 }
            watch('it') {
                url "${base}?port=$port"
                needs 'port'
                header 'Accept', 'text/plain'
                healthy {
                    status == 200 && body.contains('%s')
                    header('X-None') == null || url.startsWith(base)
                    for (word in ['k', 'o']) body.contains(word)
                }
                attempts looks, every: 1.second
                limit 3, per: 1.hour
                restart(when: { error == unknownHost || status in [403, 429] }) { }
                restart touch
                notify pushover(token: 'T', user: 'U', url: base), on: [healed, gave_up]
                notify { event -> println "$event.title at $port" }
                notify webhook(base) { [text: it.title, port: port] }
            }
            """.formatted(service.url(), java.net.URI.create(service.url()).getPort(), word));
    }

    /** One pass in a process of its own; the names of all classes that it loaded. */
    private Set<String> pass() throws Exception {
        Path log = Files.createTempFile(folder, "classes", ".log"), said = Files.createTempFile(folder, "said", "");
        List<String> words = new ArrayList<>(Run.process());
        words.addAll(List.of("--quiet", "--rules", "rules.groovy"));
        words.add(1, "-Xlog:class+load:file=" + log + "::filecount=0");
        var builder = new ProcessBuilder(words).directory(folder.toFile()).redirectErrorStream(true).redirectOutput(said.toFile());
        builder.environment().put("HOME", folder.toString());
        builder.environment().keySet().removeAll(Set.of("XDG_STATE_HOME", "XDG_CONFIG_HOME"));
        assertEquals(0, builder.start().waitFor(), Files.readString(said));
        var loaded = Pattern.compile("\\] (\\S+) source: ");
        return Files.readAllLines(log).stream().map(loaded::matcher).filter(m -> m.find()).map(m -> m.group(1))
            .collect(Collectors.toCollection(TreeSet::new));
    }

    /** Every file of the state folder but the lock, with what changes when it is written or replaced. */
    private Map<String, String> files() throws IOException {
        try (var all = Files.walk(folder.resolve(".local"))) {
            Map<String, String> files = new TreeMap<>();
            for (Path file : all.filter(Files::isRegularFile).toList())
                files.put(folder.relativize(file).toString(), Files.getAttribute(file, "unix:ino") + " " + Files.getLastModifiedTime(file));
            return files;
        }
    }

    /** How many asked at the same time, and how many new threads of which name there were while they did. */
    private record Crowd(int most, Map<String, Integer> threads) {
        /** Without OkHttp's, which end by themselves, and the JDK's, in which Groovy loads when it is first used. */
        Set<String> strangers() {
            return threads.keySet().stream().filter(name -> !name.matches("(OkHttp|Okio|ForkJoinPool).*"))
                .collect(Collectors.toCollection(TreeSet::new));
        }
    }

    private Crowd threadsOver(int services) throws Exception {
        AtomicInteger now = new AtomicInteger(), most = new AtomicInteger();
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        Set<Thread> before = Set.copyOf(Thread.getAllStackTraces().keySet());
        ExecutorService answering = Executors.newCachedThreadPool(work -> new Thread(work, "the service"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 500);
        server.setExecutor(answering);
        int together = Math.min(services, SIDE_BY_SIDE);
        server.createContext("/", exchange -> {
            most.accumulateAndGet(now.incrementAndGet(), Math::max);
            // All who will ever be here together are here before the first one gets its answer.
            EdgeWorld.await(together + " at the same time", () -> most.get() >= together);
            Thread.getAllStackTraces().keySet().stream().filter(thread -> !before.contains(thread)).map(Thread::getName)
                .filter(name -> !name.matches("the service|HTTP-Dispatcher.*|idle-timeout-task|server-timer.*")) // of the server here
                .collect(Collectors.groupingBy(name -> name, Collectors.summingInt(name -> 1))).forEach((name, count) -> seen.merge(name, count, Math::max));
            now.decrementAndGet();
            exchange.sendResponseHeaders(204, -1);
            exchange.close();
        });
        server.start();
        try {
            String url = "http://127.0.0.1:" + server.getAddress().getPort() + "/";
            Run run = new Run.Desk(folder).rules("""
                (1..%d).each { n -> watch("service $n") { url '%s'; timeout 30.seconds; attempts 1 } }
                """.formatted(services, url)).watchdog();
            assertEquals(0, run.exit(), run.out() + run.err());
            return new Crowd(most.get(), seen);
        } finally {
            server.stop(0);
            answering.shutdownNow();
        }
    }
}
