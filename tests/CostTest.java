import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a healthy pass, 105,000 times a year, does not do. Nothing is timed; tests/bench measures time. */
@Order(5)
class CostTest {
    private static final int MAX_PARALLEL = 64;

    @TempDir
    private Path temp;
    private TestFolder home;

    @BeforeEach
    void open() { home = new TestFolder(temp); }

    @Test
    void rulesAreCompiledOnceByTheFirstPassAfterAnEdit() throws Exception {
        try (Service service = new Service(temp, "it")) {
            service.start();
            home.rules(rules(service, "ok"));
            assertTrue(passCompiles(), "the first pass");
            assertFalse(passCompiles(), "a healthy pass");
            home.rules(rules(service, "o"));
            assertTrue(passCompiles(), "the first pass after an edit");
            assertFalse(passCompiles(), "a healthy pass after an edit");
        }
    }

    /** Runs a pass in a new process. Its class log must name OkHttp, or it would prove nothing. */
    private boolean passCompiles() throws Exception {
        Path log = Files.createTempFile(temp, "classes", ".log");
        List<String> words = new ArrayList<>(Run.process("--quiet"));
        words.add(1, "-Xlog:class+load:file=" + log + "::filecount=0");
        var builder = new ProcessBuilder(words).directory(temp.toFile());
        builder.environment().put("HOME", temp.toString());
        builder.environment().keySet().removeAll(Set.of("XDG_STATE_HOME", "XDG_CONFIG_HOME"));
        Run.of(builder).exits(0);
        String classes = Files.readString(log);
        assertTrue(classes.contains(" okhttp3.OkHttpClient "), "the log has no classes");
        return classes.contains(" RulesCompiler ");
    }

    @Test
    void aHealthyPassWritesOneLineOfHistoryAndWhoHasTheLock() throws Exception {
        try (Service service = new Service(temp, "it")) {
            service.start();
            home.rules(rules(service, "ok"));
            home.watchdog().exits(0);
            home.watchdog().exits(0);
            String history = temp.relativize(home.state().resolve("history.jsonl")).toString();
            List<String> lines = home.lines(history);
            Map<String, String> before = files();
            home.watchdog().exits(0);
            Map<String, String> after = files();
            assertEquals(before.keySet(), after.keySet());
            after.keySet().removeIf(file -> after.get(file).equals(before.get(file)));
            String lock = history.replace("history.jsonl", "lock");
            assertEquals(Set.of(history, lock), after.keySet());
            assertEquals(lines.size() + 1, home.lines(history).size());
            assertEquals(lines, home.lines(history).subList(0, lines.size()));
        }
    }

    /** Every file of the state folder, with what changes when it is written or replaced. */
    private Map<String, String> files() throws IOException {
        Map<String, String> files = new TreeMap<>();
        try (Stream<Path> paths = Files.walk(temp.resolve(".local"))) {
            for (Path file : paths.filter(Files::isRegularFile).toList()) {
                String version = Files.getAttribute(file, "unix:ino") + " " + Files.getLastModifiedTime(file);
                files.put(temp.relativize(file).toString(), version);
            }
        }
        return files;
    }

    /** For the deadline, the check, its request and its judgement; more overlap on a slow machine. */
    @Test
    void aPassOverOneServiceStartsFewThreads() throws Exception {
        assertThreads(8, passOver(1));
    }

    @Test
    void ofTwoHundredServicesSixtyFourAreCheckedAtTheSameTime() throws Exception {
        Load load = passOver(200);
        assertEquals(MAX_PARALLEL, load.requests);
        assertThreads(4 * MAX_PARALLEL, load);   // two a check, and some that have not quite ended
    }

    private static void assertThreads(int max, Load load) {
        assertTrue(Set.of("watchdog").containsAll(load.threads.keySet()), load.toString());
        assertTrue(load.threads.getOrDefault("watchdog", 0) <= max, load.toString());
    }

    /** The highest numbers at any time: of requests, and of threads by name, without OkHttp's own. */
    private record Load(int requests, Map<String, Integer> threads) { }

    /** The pass runs in a group of threads, which its new threads join: other tests run at the same time. */
    private Load passOver(int services) throws Exception {
        AtomicInteger requests = new AtomicInteger(), maxRequests = new AtomicInteger();
        Map<String, Integer> maxThreads = new ConcurrentHashMap<>();
        var group = new ThreadGroup("pass");
        int together = Math.min(services, MAX_PARALLEL);
        try (TestServer server = new TestServer((path, body) -> {
            maxRequests.accumulateAndGet(requests.incrementAndGet(), Math::max);
            // The first answer is sent when all that are ever checked together have asked.
            Wait.until(together + " requests", () -> maxRequests.get() >= together);
            threads(group).forEach((name, count) -> maxThreads.merge(name, count, Math::max));
            requests.decrementAndGet();
            return new TestServer.Answer(204, "");
        })) {
            home.rules("""
                (1..%d).each { n -> watch("service $n") { url '%s'; timeout 30.seconds; attempts 1 } }
                """.formatted(services, server.url()));
            home.watchdog("validate").exits(0);   // compiles, in threads of its own
            var pass = new FutureTask<>(home::watchdog);
            new Thread(group, pass, "main").start();
            pass.get().exits(0);
            return new Load(maxRequests.get(), maxThreads);
        }
    }

    private static Map<String, Integer> threads(ThreadGroup group) {
        Thread[] threads = new Thread[1000];
        int count = group.enumerate(threads);
        Predicate<String> counts = name -> !name.equals("main") && !name.startsWith("Ok");
        Map<String, Integer> byName = new TreeMap<>();
        Stream.of(threads).limit(count).map(Thread::getName).filter(counts)
            .forEach(name -> byName.merge(name, 1, Integer::sum));
        return byName;
    }

    /** Whoever runs it next year gets the same program, and Java starts with little. */
    @Test
    void theHeaderNamesExactVersionsAndACheapStart() throws IOException {
        List<String> header = Files.readAllLines(Path.of("watchdog.java")).stream()
            .takeWhile(line -> line.startsWith("//")).toList();
        List<String> deps = header.stream().filter(line -> line.startsWith("//DEPS ")).toList();
        assertFalse(deps.isEmpty());
        for (String dep : deps) assertTrue(dep.matches("//DEPS [\\w.-]+:[\\w.-]+:\\d+(\\.\\d+)+"), dep);
        String options = header.stream().filter(line -> line.startsWith("//RUNTIME_OPTIONS "))
            .collect(Collectors.joining(" "));
        for (String option : List.of("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx", "-Xshare:auto"))
            assertTrue(options.contains(option), options);
    }

    /** Rules with a little of everything; {@code word}: what the answer must contain. */
    private static String rules(Service service, String word) {
        return """
            def base = '%s', port = %d
            int tries = 1
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
                attempts tries, every: 1.second
                limit 3, per: 1.hour
                restart(when: { error == unknownHost || status in [403, 429] }) { }
                restart touch
                notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), url: base),
                    on: [healed, gave_up]
                notify { event -> println "$event.title at $port" }
                notify webhook(base) { [text: it.title, port: port] }
            }
            """.formatted(service.url(), URI.create(service.url()).getPort(), word);
    }
}
