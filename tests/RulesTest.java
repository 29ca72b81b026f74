import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import okhttp3.tls.HeldCertificate;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * The language of rules.groovy: what it accepts, what it refuses and in which words, and what its conditions
 * say.
 */
class RulesTest {

    private static final String JSON = """
        {"a": {"b": [{"c": 3}, {"c": "x"}]}, "none": null, "ok": true, "half": 0.5}""";

    private static MockWebServer server;
    @TempDir Path folder;

    @BeforeAll static void serve() throws IOException {
        server = new MockWebServer();
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) { return answer(
                request.getUrl().encodedPath()); }
        });
        server.start();
    }

    @AfterAll static void stopServing() { server.close(); }

    private static MockResponse answer(String path) {
        MockResponse.Builder good = new MockResponse.Builder().code(200).addHeader("X-Two", "yes");
        return switch (path) {
            case "/json" -> good.body(JSON).build();
            case "/huge" -> good.body("needle" + "x".repeat(3 << 20) + "\u001b[31mred").build();
            case "/hop" -> good.code(302).addHeader("Location", "/json").build();
            default -> good.code(401).body("<h1>401 Unauthorized</h1>").build();
        };
    }

    private static String at(String path) { return server.url(path).toString(); }

    private TestFolder home(String rules) { return new TestFolder(folder).rules(rules); }

    /** What `validate` says of rules that must be refused. */
    private String refused(String rules) {
        Run run = home(rules).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        return run.err();
    }

    @Test void aStatusInQuotesCouldNeverHoldAndIsRefused() {
        says(refused("watch('a') { url 'http://127.0.0.1:1/'; healthy { status == '200' } }"),
            "write it without quotes: 200");
    }

    private static void says(String all, String part) {
        assertTrue(all.contains(part), () -> "«" + part + "» is not in: " + all);
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Map<String, Object>> watches(Run run) {
        Map<String, Object> json = (Map<String, Object>) new JsonSlurper().parseText(run.out());
        return ((List<Map<String, Object>>) json.get("watches")).stream()
            .collect(Collectors.toMap(w -> (String) w.get("name"), w -> w, (a, b) -> b, LinkedHashMap::new));
    }

    // ---- mistakes that the compiler finds -------------------------------------------------------------

    /** A line of a block, with | before the column that is to be told, and the sentence. */
    private record Wrong(String block, String line, String sentence) {
        String before(int number) {
            String watch = "watch('w" + number + "') { ";
            return switch (block) {
                case "top" -> "";
                case "watch" -> watch;
                case "when" -> watch + "restart(when: { ";
                default -> watch + block + " { ";
            };
        }

        String text(int number) {
            return before(number) + line.replace("|", "") + Map.of("top", "", "watch", " }", "when",
                " }) { } }").getOrDefault(block, " } }");
        }

        String place(int number) { return (number + 1) + ":" + (before(number).length() + line.indexOf('|')
            + 1); }
    }

    private static final String NO_STEP =
        " is not a step; write one a line, run '…' for a command or call { … } for Groovy";

    private static final String ALWAYS =
        "this is always true; write a comparison, for example status == 200";

    private static final List<Wrong> MISSPELT = List.of(
        new Wrong("top", "|wach('x') { url 'http://x/' }",
            "no such word 'wach' in the file; did you mean 'watch'?"),
        new Wrong("top", "|pth '/opt'", "no such word 'pth' in the file; did you mean 'path'?"),
        new Wrong("top", "|heartbeat 7", "'heartbeat' is not used like this; write: heartbeat 'url'"),
        new Wrong("top", "|deadline 4", "'deadline' is not used like this; write: deadline 10.seconds"),
        new Wrong("top", "|url 'http://x/'", "'url' belongs in watch { }, not in the file"),
        new Wrong("top", "|stop 'x'", "'stop' belongs in restart { }, not in the file"),
        new Wrong("top", "|watch { tcp 'a:1' }", "'watch' is not used like this; write: watch('name') { … }"),
        new Wrong("top", "|watch('x')", "'watch' is not used like this; write: watch('name') { … }"),
        new Wrong("top", "notify |pushovr(token: 't', user: 'u')",
            "no such word 'pushovr' in the file; did you mean 'pushover'?"),
        new Wrong("top", "notify pushover(|token: 't')",
            "the option 'user' is missing; write: pushover(token: 'token', user: 'user'); options: "
                + "priority: 3, sound: 'sound', device: 'device', url: 'url'"),
        new Wrong("top", "notify pushover(token: 't', user: 'u', |sond: 'z')",
            "no option 'sond' here; did you mean 'sound'?"),
        new Wrong("top", "notify pushover(token: 't', user: 'u'), |onn: [down]",
            "no option 'onn' here; did you mean 'on'?"),
        new Wrong("top", "if (|hots == 'mini') { deadline 1.minute }",
            "no such word 'hots' in the file; did you mean 'host'?"),
        new Wrong("watch", "|ulr 'http://x/'", "no such word 'ulr' in watch { }; did you mean 'url'?"),
        new Wrong("watch", "|url 42", "'url' is not used like this; write: url 'address'"),
        new Wrong("watch", "|url = 'http://x/'", "'url' is not used like this; write: url 'address'"),
        new Wrong("watch", "url: |'http://x/'", "'url' is not used like this; write: url 'address'"),
        new Wrong("watch", "|timeout 10", "'timeout' is not used like this; write: timeout 10.seconds"),
        new Wrong("watch", "timeout |10.secnods", "int has no 'secnods'; did you mean 'seconds'?"),
        new Wrong("watch", "def t = 3; timeout |t.seconds",
            "int has no 'seconds'; for a variable write Duration.ofSeconds(…)"),
        new Wrong("watch", "|attempts 2, every: 3",
            "'attempts' is not used like this; write: attempts 3; options: every: 10.seconds"),
        new Wrong("watch", "limit 3, |pre: 1.hour", "no option 'pre' here; did you mean 'per'?"),
        new Wrong("watch", "needs |internet",
            "no such word 'internet' in watch { }; if it is a text, put it in quotes: 'internet'; if it is a "
                + "variable, define it further up"),
        new Wrong("watch", "|needs ['internet']", "'needs' is not used like this; write: needs '…', '…'"),
        new Wrong("watch", "|send", "'send' is not used like this; write: send 'text'; options: "
            + "type: 'type'"),
        new Wrong("watch", "|basicAuth 'me'",
            "'basicAuth' is not used like this; write: basicAuth 'user', 'password'"),
        new Wrong("watch", "|helthy { statsu == 200 }",
            "no such word 'helthy' in watch { }; did you mean 'healthy'?"),
        new Wrong("watch", "|start 'x'", "'start' belongs in restart { }, not in watch { }"),
        new Wrong("watch", "|status == 200", "'status' belongs in healthy { }, not in watch { }"),
        new Wrong("watch", "|watch('inner') { }", "'watch' belongs in the file, not in watch { }"),
        new Wrong("watch", "restart(|wehn: { status == 530 }) { run 'true' }",
            "no option 'wehn' here; did you mean 'when'?"),
        new Wrong("watch", "|restart(when: 3) { run 'true' }",
            "'restart' is not used like this; write: restart remedy, or restart { … }; options: "
                + "when: { … }"),
        new Wrong("healthy", "|statsu == 200",
            "no such word 'statsu' in healthy { }; did you mean 'status'?"),
        new Wrong("healthy", "|status = 200", "'status' is not used like this; write: status == …"),
        new Wrong("healthy", "|status 200", "'status' is not used like this; write: status == …"),
        new Wrong("healthy", "|body.contians('x')", "String has no 'contians'; did you mean 'contains'?"),
        new Wrong("healthy", "|body.contains(42)", "'contains' does not take int"),
        new Wrong("healthy", "|time < 3", "Duration cannot be compared with int; write, for example, 2.seconds"),
        new Wrong("healthy", "time < |3.mins",
            "int has no 'mins'; write: 10.seconds, 5.minutes or 1.hour"),
        new Wrong("top", "notify |email('x')",
            "no such word 'email' in the file; write: notify command('…'); the reference shows how"),
        new Wrong("healthy", "|json(3) == 4", "'json' is not used like this; write: json('path') == …"),
        new Wrong("healthy", "status == 200 && |certificat.expiresIn > 3.days",
            "no such word 'certificat' in healthy { }; did you mean 'certificate'?"),
        new Wrong("healthy", "|url 'http://x/'", "'url' is not used like this; write: url == …"),
        new Wrong("healthy", "|header 'X', 'y'",
            "'header' is not used like this; write: header('name') == …"),
        new Wrong("healthy", "|restart { run 'true' }", "'restart' belongs in watch { }, not in healthy { }"),
        new Wrong("when", "|eror == refused", "no such word 'eror' in when: { }; did you mean 'error'?"),
        new Wrong("when", "error == |refussed",
            "no such word 'refussed' in when: { }; did you mean 'refused'?"),
        new Wrong("when", "|url 'http://x/'", "'url' is not used like this; write: url == …"),
        new Wrong("top", "def web(name) { |watch(name) { url 'http://127.0.0.1:1/' } }",
            "'watch' is not used like this; write: watch('name') { … } (give the function types, so that "
                + "it can be checked: String name(String x) { … })"),
        new Wrong("top", "int twice(int x) { x * 2 }; def y = |twice('a')", "'twice' does not take String"),
        new Wrong("top", "def ok(b) { |b.contains('fine') }",
            "Object has no 'contains' (give the function types, so that it can be checked: String name("
                + "String x) { … })"),
        new Wrong("healthy", "|'status == 200'",
            "this is always true; write a comparison, for example status == 200"),
        new Wrong("healthy", "|status",
            "this is always true; write a comparison, for example status == 200"),
        new Wrong("healthy", "|body", "this is always true; write a comparison, for example status == 200"),
        new Wrong("healthy", "body == |200", "write it in quotes: '200'"),
        new Wrong("healthy", "body && status == |'200'", "write it without quotes: 200"),
        new Wrong("healthy", "|status == [200, 201]", "this is never true; write: status in …"),
        new Wrong("healthy", "body && |status == 200..299", "this is never true; write: status in …"),
        new Wrong("watch", "restart(when: { error == |'timeout' }) { run 'x' }",
            "write it without quotes: timeout"),
        new Wrong("healthy", "|switch (status) { case 200: body == 'x' }",
            "write each condition on a separate line; use && and ||, or if"),
        new Wrong("healthy", "status: |[200, 201]", "'status' is not used like this; write: status == …"),
        new Wrong("healthy", "|error", ALWAYS),
        new Wrong("healthy", "|['a', 'b'].each { body.contains(it) }", ALWAYS),
        new Wrong("healthy", "|return status == 200", "write each condition on a separate line; use && and ||, or if"),
        new Wrong("when", "|tls", ALWAYS),
        new Wrong("when", "status == 200 && |timeout", ALWAYS),
        new Wrong("healthy", "|run('x') == 0", "'run' belongs in restart { }, not in healthy { }"),
        new Wrong("watch", "|wait 1", "no such word 'wait' in watch { }; write: pause 3.seconds"),
        new Wrong("watch", "notify { |url 'x' }", "'url' belongs in watch { }, not in the file"),
        new Wrong("watch", "def url = 'x'; |url url", "a variable has the name of this word; rename the variable"),
        new Wrong("watch", "|run 'x'", "'run' belongs in restart { }, not in watch { }"),
        new Wrong("watch", "healthy |{ def x = status == 200 }",
            "there is no condition in healthy { }; write, for example, status == 200"),
        new Wrong("watch", "healthy |{ }",
            "there is no condition in healthy { }; write, for example, status == 200"),
        new Wrong("top", "watch('early') { restart |r }",
            "no such word 'r' in watch { }; if it is a text, put it in quotes: 'r'; if it is a variable, "
                + "define it further up"),
        new Wrong("top", "def r = restart(|when: { status == 3 }) { run 'x' }",
            "no option 'when' here; write: restart { … }"),
        new Wrong("restart", "|stpo 'x'", "no such word 'stpo' in restart { }; did you mean 'stop'?"),
        new Wrong("restart", "start 'x', |lgo: 'y'", "no option 'lgo' here; did you mean 'log'?"),
        new Wrong("restart", "|start 'x', log: 7",
            "'start' is not used like this; write: start 'command'; options: log: 'log'"),
        new Wrong("restart", "|pause 3", "'pause' is not used like this; write: pause 10.seconds"),
        new Wrong("restart", "|status == 200", "this line" + NO_STEP),
        new Wrong("restart", "|url 'http://x/'", "'url' belongs in watch { }, not in restart { }"),
        new Wrong("restart", "|notify slack(url: 'http://x/')",
            "'notify' belongs in watch { }, not in restart { }"),
        new Wrong("restart", "[1, 2].each { |sotp 'x' }",
            "no such word 'sotp' in restart { }; did you mean 'stop'?"),
        new Wrong("restart", "|body.trim()", "this line" + NO_STEP),
        new Wrong("restart", "|'x'.trim()", "this line" + NO_STEP),
        new Wrong("restart", "|println 'x'",
            "no such word 'println' in restart { }; write: call { println '…' }"),
        new Wrong("restart", "|sleep 3", "no such word 'sleep' in restart { }; write: pause 3.seconds"),
        new Wrong("restart", "|wait 1", "no such word 'wait' in restart { }; write: pause 3.seconds"),
        new Wrong("restart", "|kill 'x'", "no such word 'kill' in restart { }; write: stop '…'"),
        new Wrong("restart", "|exec 'x'",
            "no such word 'exec' in restart { }; write: run '…', or sh '…' for a shell"),
        new Wrong("restart", "|restart 'x'", "'restart' belongs in watch { }, not in restart { }"),
        new Wrong("restart", "|secret 'X'", "'secret'" + NO_STEP),
        new Wrong("restart", "|command './fix.sh'", "'command'" + NO_STEP),
        new Wrong("healthy", "|command 'x'",
            "this is always true; write a comparison, for example status == 200"),
        new Wrong("restart", "call { |stop 'x' }", "'stop' belongs in restart { }, not in the file"),
        new Wrong("restart", "call { |System.exit(0) }", "'exit' would end watchdog itself"),
        new Wrong("top", "|Runtime.runtime.halt(1)", "'halt' would end watchdog itself"),
        new Wrong("watch", "|retries 3",
            "no such word 'retries' in watch { }; write: attempts 3, every: 2.seconds"),
        new Wrong("watch", "|interval 5.minutes",
            "no such word 'interval' in watch { }; write: in a shell: watchdog schedule --install --every "
                + "5m"),
        new Wrong("watch", "|header 'A: b'", "'header' is not used like this; write: header 'name', 'value'"),
        new Wrong("watch", "|notify 'pushover'",
            "'notify' is not used like this; write: notify pushover(…), or notify { … }; options: "
                + "on: […], orElse: pushover(…)"),
        new Wrong("restart", "stop |cloudflared", "no such word 'cloudflared' in restart { }; if it is a "
            + "text, put it in quotes: 'cloudflared'; if it is a variable, define it further up"),
        new Wrong("watch", "url |https: 'x'", "no option 'https' here; write: url 'https://…'"),
        new Wrong("watch", "notify |slack",
            "'slack' is not used like this; write: slack(url: 'url'); options: trust: 'trust'"),
        new Wrong("healthy", "body |contains 'x'", "write a dot and parentheses: body.contains('…')"),
        new Wrong("healthy", "body.contains(|x)",
            "no such word 'x' in healthy { }; if it is a text, put it in quotes: 'x'; if it is a variable, "
                + "define it further up"),
        new Wrong("top", "watch |'plex' { url 'http://x/' }",
            "write parentheses before a block: watch('plex') { … }"),
        new Wrong("top", "watch('b') { tcp |port }", "no such word 'port' in watch { }; if it is a text, put "
            + "it in quotes: 'port'; if it is a variable, define it further up"),
        new Wrong("top", "services: |[1]", "no such word 'services' in the file"),
        new Wrong("top", "|restart { run 'x' }",
            "'restart' alone does nothing; write it in watch { }"),
        new Wrong("top", "|slack(url: 'http://x/')",
            "'slack' alone does nothing; write it behind notify"),
        new Wrong("watch", "|ntfy(topic: 'x')",
            "'ntfy' alone does nothing; write it behind notify"),
        new Wrong("restart", "|stop 'a' start 'b'", "this line" + NO_STEP),
        new Wrong("watch", "|limit 3 per 1.hour", "'per' needs a comma before it and a colon behind "
            + "it, or must begin a new line"),
        new Wrong("watch", "notify webhook(|url: 'http://x/')", "no option 'url' here; write: webhook('url') { "
            + "… }, or webhook('url'); options: headers: headers, trust: 'trust'"),
        new Wrong("restart", "|cmd 'x'",
            "no such word 'cmd' in restart { }; its steps are stop, start, run, sh, pause and call"),
        new Wrong("watch", "|notify null",
            "'notify' is not used like this; write: notify pushover(…), or notify { … }; options: "
                + "on: […], orElse: pushover(…)"),
        new Wrong("healthy", "|error == refused",
            "without a response it is unhealthy anyway; `error` is for restart(when: { … })"),
        new Wrong("top", "notify command(\"echo $|HOW\")", "there is no value 'HOW'; for a $ in a text write "
            + "\\$HOW, or put the text in single quotes"));

    /**
     * One file for all: that each is told proves that all are told in one go, also in blocks that do not run.
     */
    @TestFactory Stream<DynamicTest> everyMistakeIsToldWithItsPlaceAndItsLine() {
        String told = refused(numbered(MISSPELT.size(), n -> MISSPELT.get(n).text(n)));
        return IntStream.range(0, MISSPELT.size()).mapToObj(n -> DynamicTest.dynamicTest(
            MISSPELT.get(n).block() + ": " + MISSPELT.get(n).line(), () -> {
                Wrong wrong = MISSPELT.get(n);
                List<String> here = told.lines().filter(line -> line.startsWith("rules.groovy:" + (n + 1)
                    + ":")).toList();
                assertEquals(List.of("rules.groovy:" + wrong.place(n) + ": " + wrong.sentence()), here);
                says(told, "\n    " + wrong.text(n) + "\n");
            }));
    }

    private static String numbered(int rows, java.util.function.IntFunction<String> row) {
        return IntStream.range(0, rows).mapToObj(row).collect(Collectors.joining("\n", "", "\n"));
    }

    @Test void twoMistakesInOneLineAreBothTold() {
        String told = refused(
            "watch('a') { ulr 'x'; restart(when: { eror == refused }) { stpo 'x'; pause 3 } }\n");
        for (String word : List.of("ulr", "eror", "stpo")) says(told, "no such word '" + word + "'");
        says(told, "'pause' is not used like this");
    }

    @Test void whatFollowsFromAMistakeIsNotTold() {
        assertEquals("""
            rules.groovy:1:33: ServerCertificate has no 'expires'
                watch('a') { url 'x'; healthy { certificate.expires > 3.days } }
                                                ^
            """, refused("watch('a') { url 'x'; healthy { certificate.expires > 3.days } }\n"));
    }

    @Test void aMistakeReadsAsASentenceWithItsLineQuotedAndAMarkUnderIt() {
        assertEquals("""
            rules.groovy:3:5: no such word 'restrat' in watch { }; did you mean 'restart'?
                    restrat { run 'true' }
                    ^
            """, refused("""
            watch('plex') {
                url 'https://plex.example.com'
                restrat { run 'true' }
            }
            """));
    }

    @Test void aMistypedBlockIsOneMistakeAndNotOneALine() {
        assertEquals("""
            rules.groovy:1:1: no such word 'wtach' in the file; did you mean 'watch'?
                wtach('plex') {
                ^
            """, refused("""
            wtach('plex') {
                url 'https://plex.example.com'
                restart(when: { error == refused }) { run 'true' }
            }
            """));
    }

    private static final String BRACES =
        "braces do not match: one before this is not closed, or this is one too many";

    /** What Groovy cannot read: the only mistake that is told, so each in a file of its own. */
    @ParameterizedTest @CsvSource(delimiterString = " | ", quoteCharacter = '`', value = {
        "watch('a') {~  url 'http://x/'~ | 1:12: this { has no }",
        "watch('a') {~  url 'http://x/'~  healthy { // it~    status == 200~} | 3:11: this { has no }",
        "watch('a') { tcp 'x:1' }~watch(‘b’) { tcp 'x:1' } | 2:7: write straight quotes, ' or \"",
        "watch('a'~  url 'http://x/'~} | 3:1: " + BRACES,
        "watch('a') {~  healthy { status == 200 } }~} | 3:1: " + BRACES,
        "watch('a') {~  url 'http://x/~} | 2:7: this quote is not closed",
        "watch('a') {~  command \"awk '{print $1}'\"~} | 2:24: for a $ in a text write \\$, or use single quotes",
        "watch('a') { tcp 'x:1' } # it is~ | 1:26: a comment begins with //",
        "def x = 'a~watch('a') { tcp 'x:1' } | 1:9: this quote is not closed",
        "watch('a') {~  url http://x/~} | 2:7: a text needs quotes: 'http://x/'",
        "watch('a') {~  healthy { status == 200 and time < 1.second } } | 2:27: write && for and, || for or",
        "watch('a') {~  healthy { status > 1 or status == 200 } } | 2:24: write && for and, || for or",
        "watch('a') {~  healthy { json('n') = 7 } } | 2:23: a comparison is written with ==",
        "# comment~watch('a') { tcp 'x:1' } | 1:1: a comment begins with //",
        "watch('a') {~  healthy { status == 200, 201 } } | 2:26: ',' is not expected here"})
    void whatIsNotGroovyIsToldWithWhatToWrite(String rules, String sentence) {
        says(refused(rules.replace("~", "\n")), "rules.groovy:" + sentence + "\n");
    }

    // ---- mistakes that loading finds ------------------------------------------------------------------

    private record Contrary(String line, String sentence) { }

    private static Contrary in(String watch, String sentence) { return new Contrary(watch, sentence); }

    private static final List<Contrary> CONTRARY = List.of(
        in("watch('n0') { url 'plex.example.com' }",
            "url 'plex.example.com' is not a URL; write, for example, 'https://plex.example.com/identity'"),
        in("watch('n1') { url 'ftp://x/' }", "url 'ftp://x/' is not a URL"),
        in("watch('n2') { url '' }", "url '' is not a URL"),
        in("watch('n3') { url 'http://' }", "url 'http://' is not a URL"),
        in("watch('n4') { url 'http://x:99999/' }", "url 'http://x:99999/' is not a URL"),
        in("watch('n5') { url 'http://x/'; url 'http://y/' }",
            "watch 'n5' needs one url, tcp or command; found 2"),
        in("watch('n6') { tcp 'a:1'; healthy { status == 0 }; healthy { status == 1 } }",
            "watch 'n6' has two healthy blocks; write one"),
        in("watch('n7') { }", "watch 'n7' checks nothing; add url, tcp or command"),
        in("watch('n8') { url 'http://x/'; tcp 'x:1' }", "watch 'n8' needs one url, tcp or command; found 2"),
        in("watch('n9') { tcp 'x:1'; header 'A', 'b' }",
            "watch 'n9' has no url, so method, header, send, trust and connectTo mean nothing"),
        in("watch('n10') { tcp 'localhost' }",
            "tcp 'localhost' is not a host and a port, as in 'localhost:32400'"),
        in("watch('n11') { tcp 'x:99999' }",
            "tcp 'x:99999' is not a host and a port, as in 'localhost:32400'"),
        in("watch('n12') { tcp 'x:1'; timeout 0.seconds }",
            "timeout 0 ms is not a duration above zero, for example 10.seconds"),
        in("watch('n13') { tcp 'x:1'; attempts 0 }", "attempts 0 is not a whole number from 1 to 1000"),
        in("watch('n14') { tcp 'x:1'; failures(-1) }",
            "failures -1 is not a whole number from 1 to 1000"),
        in("watch('n15') { tcp 'x:1'; samples 2, good: 3 }",
            "good: 3 is not a number from 1 to 2"),
        in("watch('plex') { tcp 'x:1' }", null),
        in("watch('n18') { tcp 'x:1'; needs 'plxe' }",
            "needs 'plxe' is not the name of a watch above this one; did you mean 'plex'?"),
        in("watch('n19') { tcp 'x:1'; needs 'n20' }",
            "needs 'n20' is not the name of a watch above this one"),
        in("watch('early') { tcp 'x:1'; needs 'internt' }",
            "needs 'internt' is not the name of a watch above this one"),
        in("watch('internet') { tcp 'x:1' }", null),
        in("watch('n20') { tcp 'x:1'; restart { run \"it's\" } }",
            "the command \"it's\" has a quote that is not closed"),
        in("watch('n7') { tcp 'x:1' }", "there are two watches with the name 'n7'"),
        in("watch('') { tcp 'x:1' }", "watch '' needs a name of one line and at most 60 characters"),
        in("watch('a\\nb') { tcp 'x:1' }", "watch 'a b' needs a name of one line and at most 60 characters"),
        in("watch('n25') { url 'http://x/'; header 'X Y', 'z' }",
            "watch 'n25' cannot be requested: unexpected char 0x20 at 1 in header name: X Y"),
        in("watch('n26') { url 'http://x/'; method 'GET'; send 'x' }",
            "watch 'n26' cannot be requested: method GET must not have a request body."),
        in("watch('n27') { command 'it\"s' }", "the command \"it\"s\" has a quote that is not closed"),
        in("watch('n28') { tcp 'x:1'; restart { while (true) { run 'true' } } }",
            "restart has more than 100 steps; is its loop endless?"),
        in("path 'bin'",
            "path 'bin' is not an absolute folder; write, for example, '/opt/homebrew/bin' or '~/bin'"),
        in("heartbeat 'hc-ping.com/x'", "heartbeat 'hc-ping.com/x' is not a URL"),
        in("metrics '/tmp/watchdog'", "metrics '/tmp/watchdog' is not a name that ends in .prom; "
            + "the node exporter ignores other files"),
        in("deadline 0.minutes", "deadline 0 ms is not a duration above zero, for example 10.seconds"),
        in("notify slack(url: 'https://x/'), on: ['down']", "on: 'down' is not a kind such as gave_up"),
        in("notify webhook('x')", "webhook 'x' is not a URL"),
        in("notify ntfy(topic: 'my', url: 'http://x/my')",
            "url: 'http://x/my' is not the address of the server, without the topic"),
        in("notify ntfy(topic: 'two words')", "topic: 'two words' is not 1 to 64 letters, digits, _ and -"),
        in("notify ntfy(topic: 'x', priority: 6)", "priority: 6 is not a number from 1 to 5"),
        in("notify pushover(token: 'x'.multiply(29), user: 'u'.multiply(30))",
            "token: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is not a key of 30 letters and digits"),
        in("notify pushover(token: 'x'.multiply(30), user: 'me@example.com')",
            "user: 'me@example.com' is not a key of 30 letters and digits"),
        in("notify pushover(token: 'x'.multiply(30), user: 'u'.multiply(30), priority: -3)",
            "priority: -3 is not a number from -2 to 2"));

    @Test void theSettingsThatAServiceAcceptsAreGood() {
        Run run = home("""
            String key = 'aZ9'.multiply(10)
            notify pushover(token: key, user: "$key,$key", priority: -2)
            notify ntfy(topic: '-_aZ9'.padRight(64, 'x'), priority: 5)
            notify pushover(token: secret('NONE'), user: key)
            watch('a') { command 'true' }
            """).watchdog("validate");
        assertEquals(1, run.err().lines().count(), run.err());
        says(run.err(), "rules.groovy:4: the secret NONE is missing, so pushover sends nothing");
    }

    @TestFactory Stream<DynamicTest> missingAndContradictorySettingsAreToldTogether() {
        String told = refused(numbered(CONTRARY.size(), n -> CONTRARY.get(n).line()));
        return IntStream.range(0, CONTRARY.size()).filter(n ->
            CONTRARY.get(n).sentence() != null).mapToObj(n ->
            DynamicTest.dynamicTest(CONTRARY.get(n).line(), () -> {
                String here = told.lines().filter(line -> line.startsWith("rules.groovy:" + (n + 1)
                    + ": ")).collect(Collectors.joining("\n"));
                says(here, "rules.groovy:" + (n + 1) + ": " + CONTRARY.get(n).sentence());
            }));
    }

    @Test void aScriptThatThrowsIsToldByItsLine() {
        assertEquals("""
            rules.groovy:2: NumberFormatException: For input string: "many"
                int most = Integer.parseInt('many')
            """, refused("""
            watch('a') { tcp 'localhost:1' }
            int most = Integer.parseInt('many')
            """));
    }

    @Test void aNullIsCalledNull() {
        says(refused("String address = null\nwatch('a') { url address }\n"),
            "rules.groovy:2: a value here is null");
    }

    @Test void anEndlessScriptIsEndedAfterTenSeconds() {
        says(refused("while (true) { }\n"),
            "rules.groovy: the rules were still running after 10 s; is there an endless loop?");
    }

    @Test void aFileThatIsTooLongForGroovyIsToldWhatToDo() {
        says(refused("watch('a') { tcp 'localhost:1' }\n".repeat(5000)),
            "rules.groovy: Groovy cannot compile so much; "
                + "write similar watches with a loop or a function (");
    }

    @Test void anEndlessRecursionIsAMistakeLikeAnyOther() {
        says(refused("void again() { again() }\nagain()\n"), "StackOverflowError");
    }

    // ---- files that are no rules ----------------------------------------------------------------------

    @Test void aMissingFileIsNamedWithWhatToDo() {
        Run run = new TestFolder(folder).watchdog("check");
        assertEquals(2, run.exit());
        assertEquals("watchdog: there is no rules file " + folder.resolve("rules.groovy")
            + "; to write one: watchdog setup URL (or: jbang setup@catalog URL); to use another: "
            + "--rules FILE\n", run.err());
    }

    @Test void anEmptyFileIsToldWhatTheLeastIs() {
        assertEquals("rules.groovy: there is no watch; write at least watch('name') { url 'https://…' }\n",
            refused(""));
    }

    @Test void aBinaryFileIsNoText() throws IOException {
        Files.write(folder.resolve("rules.groovy"), new byte[] {0x7f, 'E', 'L', 'F', (byte) 0xff,
            (byte) 0xfe, 0, 1});
        Run run = new TestFolder(folder).watchdog();
        assertEquals(2, run.exit());
        says(run.err(), "rules.groovy is not a text in UTF-8");
    }

    @Test void aDirectoryIsNoFile() {
        Run run = new TestFolder(folder).watchdog("--rules", ".");
        assertEquals(2, run.exit());
        says(run.err(), " is not a file");
    }

    @Test void aByteOrderMarkIsNoMistake() {
        assertEquals(0, home("\uFEFFwatch('a') { tcp 'localhost:1' }\n").watchdog("validate").exit());
    }

    @Test void anUnreadableLinkIsNoCrash() throws IOException {
        Files.createSymbolicLink(folder.resolve("rules.groovy"), folder.resolve("nowhere"));
        assertEquals(2, new TestFolder(folder).watchdog().exit());
    }

    // ---- plain Groovy ---------------------------------------------------------------------------------

    @Test void loopsFunctionsAndInterpolationMakeWatches() {
        Run run = home("""
            String name(x) { "http://${x}.example.com/" }
            String identity(String x) { x + 'identity' }
            def hosts = ['a', 'b']
            for (h in hosts) watch("loop-$h") { url name(h) }
            hosts.each { h -> watch("each-$h") { url identity(name(h)) } }
            if (host == 'no machine has this name') { watch('never') { } } \
            else { watch('else') { tcp "${'localhost'}:1" } }
            """).watchdog("validate");
        assertEquals("", run.err());
        assertEquals("""
            loop-a: GET http://a.example.com/
            loop-b: GET http://b.example.com/
            each-a: GET http://a.example.com/identity
            each-b: GET http://b.example.com/identity
            else: connect to localhost:1
            """, run.out().lines().filter(line -> line.matches("(loop|each|else).*"))
            .map(line -> line.replaceAll("; .*", ""))
            .collect(Collectors.joining("\n", "", "\n")));
    }

    @Test void blocksShareVariablesWhileTheFileIsLoaded() {
        Run run = home("""
            def n = 0, list = [1, 'b'], map = [k: 'v'], nothing = null, path = '/a' // a word, too
            path += '/b'
            path = path + '/c'
            def twice(int x) { x * 2 }
            watch("a $list $map $nothing ${twice(21)}") {
                n += 2
                def here = n
                tcp "localhost:${n + here}"
                restart { run "echo $n $here $path" }
                restart { n++; stop 'some daemon'; sh "echo ${list[1]} > ${map.k}" }
            }
            n++
            for (i in 1..2) { def port = n; watch("need$i") { tcp 'localhost:' + (port + i) } }
            """).watchdog("validate");
        assertEquals("", run.err());
        says(run.out(), "a [1, b] [k:v] null 42: connect to localhost:4");
        says(run.out(), "run 'echo 2 2 /a/b/c'");
        says(run.out(), "sh 'echo b > v'");
        says(run.out(), "need2: connect to localhost:6");
    }

    /** Groovy's `for` has one variable for all rounds; a block keeps the values of its own. */
    @Test void aBlockInALoopHasTheValuesOfItsRound() throws IOException {
        Run run = home("""
            for (h in ['a', 'b']) watch("x-$h") {
                url '%s'
                attempts 1
                within 1.millisecond
                healthy { body == h }
                restart(when: { header('X-Two') == h }) { run 'touch wrong' }
                restart { run "touch by-$h"; call { new File(h + '-called').createNewFile() } }
                notify { event -> new File("told-$h-$event.watch").createNewFile() }
            }
            """.replace("new File(", "new File('" + folder + "', ").formatted(at("/"))).watchdog();
        assertEquals(1, run.exit(), run.toString());
        says(run.out(), "expected body == h; got HTTP 401");
        for (String file : List.of("by-a", "by-b", "a-called", "b-called", "told-a-x-a", "told-b-x-b"))
            assertTrue(Files.exists(folder.resolve(file)), file + " is missing: " + run);
        assertFalse(Files.exists(folder.resolve("told-b-x-a")));
    }

    private static final Map<String, String> GROOVY = new java.util.TreeMap<>(Map.ofEntries(
        Map.entry("String base(String p, int n = 1) { p * n }\ndef name = base('x')", "x"),
        Map.entry("def name = 'y2'\nvoid w(String n, int code = 2) { watch(\"$n$code\") { tcp "
            + "'localhost:1' } }\nw('y')", "y2"),
        Map.entry("@groovy.transform.Field int n = 1\nwatch('f') { tcp 'localhost:1'; n += 2; attempts n "
            + "}\ndef name = \"n$n\"", "n3"),
        Map.entry("@groovy.transform.Memoized int fib(int i) { i < 2 ? i : fib(i - 1) + fib(i - 2) }\ndef "
            + "name = \"m${fib(6)}\"", "m8"),
        Map.entry("def phone() { slack(url: 'http://x/') }\ndef name = phone() ? 'h1' : ''", "h1"),
        Map.entry("def length = 'abc'.&length\ndef name = \"p${length()}\"", "p3"),
        Map.entry("def name = [1, 1].groupBy(Closure.IDENTITY).toString()", "[1:[1, 1]]"),
        Map.entry("def o = [a: 1]\ndef name = \"${[*: o, b: 2]}\"", "[a:1, b:2]"),
        Map.entry("int[] a = [1, 2]\ndef name = \"$a ${'x y'.split(' ')}\"", "[1, 2] [x, y]"),
        Map.entry("def c = { -> 'called' }\ndef name = \"$c ${-> 'later'}\"", "called later"),
        Map.entry("def start = { n -> n }\ndef name = start('s1')", "s1")));

    /** What needs more of Groovy than watchdog's own blocks has it. */
    @TestFactory Stream<DynamicTest> plainGroovyMeansWhatItMeansElsewhere() {
        return GROOVY.entrySet().stream().map(row -> DynamicTest.dynamicTest(row.getKey(), () -> {
            Run run = home(row.getKey()
                + "\nwatch(\"is $name\") { tcp 'localhost:1' }\n").watchdog("validate");
            assertEquals("", run.err());
            says(run.out(), "is " + row.getValue() + ": connect to localhost:1");
        }));
    }

    @Test void aRestartMayHaveALoopThatCounts() {
        Run run = home("watch('a') { tcp 'localhost:1'; restart { int k = 0; while (k < 2) { run \"echo "
            + "$k\"; k++ } } }\n").watchdog("validate");
        assertEquals("", run.err());
        says(run.out(), "restart: run 'echo 0', then run 'echo 1'");
    }

    @Test void anAssertOutsideOfHealthyIsToldAsOne() {
        says(refused("def n = [1]\nwatch('a') { tcp 'localhost:1'; assert n.size() == 2 }\n"),
            "rules.groovy:2: this is not true: n.size() == 2");
    }

    /** A file that has vanished since is no reason to check nothing. */
    @Test void withoutItsCertificatesOneWatchIsInconclusive() {
        TestFolder home = home("watch('a') { url 'https://localhost:1/'; trust 'nosuch.pem'; "
            + "restart { run 'touch restarted' } }\n"
            + "watch('b') { command 'true' }\n");
        String sentence = "rules.groovy:1: cannot read certificates from " + folder.resolve("nosuch.pem");
        Run pass = home.watchdog();
        assertEquals(2, pass.exit(), pass.toString());
        says(pass.out(), "a  inconclusive");
        says(pass.out(), "b  healthy");
        says(pass.err(), sentence);
        says(home.watchdog("validate").err(), sentence);
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    @Test void validateSaysThatNoShellRuns() {
        Run run = home("watch('a') { tcp 'localhost:1'; restart { start 'cat /dev/null > /dev/null 2>&1 &' "
            + "} }\n").watchdog("validate");
        assertEquals(2, run.exit());
        says(run.err(),
            "no shell runs here, so '>' stays as it is; write sh '…', or begin the command with sh -c");
        assertEquals(1, run.err().lines().count(), run.err());
    }

    @Test void timesOfAllUnitsAreRead() {
        Run run = home("""
            watch('a') { tcp 'localhost:1'; timeout 300.milliseconds }
            watch('b') { tcp 'localhost:1'; timeout 1.millisecond }
            watch('c') { tcp 'localhost:1'; timeout 1.second }
            watch('d') { tcp 'localhost:1'; timeout 1.5.seconds }
            watch('e') { tcp 'localhost:1'; timeout 2.minutes }
            watch('f') { tcp 'localhost:1'; timeout 1.minute }
            watch('g') { tcp 'localhost:1'; timeout 2.hours + 30.minutes }
            watch('h') { tcp 'localhost:1'; timeout 7.days }
            def brief = 2.seconds
            watch('i') { tcp 'localhost:1'; timeout brief }
            """).watchdog("validate");
        assertEquals("", run.err());
        List<String> times = run.out().lines().filter(line -> line.matches(".* attempts? of .*"))
            .map(line -> line.replaceAll(".* attempts? of ", "")).toList();
        assertEquals(List.of("300 ms", "1 ms", "1 s", "1.5 s", "2 min", "1 min", "2 h 30 min", "7 days",
            "2 s"), times);
    }

    @Test void aSharedRemedyIsReadByItsName() {
        Run run = home("""
            def tunnel = restart { run 'true' }
            watch('a') { tcp 'localhost:1'; restart tunnel }
            watch('b') { tcp 'localhost:1'; restart(when: { error == refused }, tunnel) }
            """).watchdog("validate");
        assertEquals("", run.err());
        says(run.out(), "restart: run 'true'");
        says(run.out(), "restart when error == refused: run 'true'");
    }

    // ---- conditions -----------------------------------------------------------------------------------

    private record Case(String conditions, String verdict, String reason) { }

    private static Case holds(String conditions) { return new Case(conditions, "healthy", null); }
    private static Case fails(String conditions, String reason) { return new Case(conditions, "unhealthy",
        reason); }
    private static Case unclear(String conditions, String reason) { return new Case(conditions,
        "inconclusive", reason); }

    private static final List<Case> CASES = List.of(
        holds("status == 200"), holds("status in 200..299"), holds("status in [200, 401]"),
            holds("!(status == 500)"),
        holds("body.contains('\"ok\"')"), holds("body =~ /\"c\": *3/"), holds("body ==~ /(?s).*half.*/"),
        holds("json('a.b[0].c') == 3"), holds("json('a.b[1].c') == 'x'"), holds("json('a.b.size') == 2"),
            holds("json('ok')"),
        holds("json('half') < 0.6"), holds("json('none') == null"), holds("json('no.such[7].thing') == null"),
        holds("header('x-two') == 'yes'"), holds("header('nosuch') == null"),
            holds("headers['x-two'] == 'yes'"),
        holds("time < 10.seconds"), holds("time > 1.millisecond - 1.millisecond"),
            holds("url.endsWith('/json')"),
        holds("protocol == 'http/1.1'"), holds("host.size() > 0"), holds("isGood(status)"),
        holds("def size = json('a.b.size')\nsize == 2"),
            holds("if (status == 200) { body.contains('ok') } else { false }"),
        fails("status == 401", "expected status == 401, but status was 200"),
        fails("status == 401 && body.contains('x')",
            "expected status == 401 && body.contains('x'), but status was 200"),
        fails("status == 200\nbody.contains('Plex')\nstatus == 500",
            "expected body.contains('Plex'); got HTTP 200, '{\"a\": {\"b\": [{\"c\": 3}"),
        fails("json('a.b[0].c') == '3'",
            "expected json('a.b[0].c') == '3', but json('a.b[0].c') was the number 3"),
        fails("header('X-Two') == 'no'", "expected header('X-Two') == 'no', but header('X-Two') was 'yes'"),
        fails("time > 1.minute", "expected time > 1.minute, but time was "),
        fails("url.endsWith('/login')", "expected url.endsWith('/login'), but url was 'http"),
        fails("protocol == 'h2'", "expected protocol == 'h2', but protocol was 'http/1.1'"),
        fails("if (status == 200) { body.contains('Plex') }",
            "expected body.contains('Plex'); got HTTP 200, "),
        fails("if (status == 500) { true } else { status == 201 }",
            "expected status == 201, but status was 200"),
        fails("def size = json('a.b.size')\nsize == 3", "size == 3"),
        fails("json('none')", "expected json('none'), but json('none') was null"),
        fails("false", "false"),
        unclear("certificate.expiresIn > 14.days",
            "a condition could not be evaluated (line 0 of the rules): no certificate: the URL is not https"),
        unclear("header('nosuch').length() > 3", "could not be evaluated (line "),
        unclear("Integer.parseInt(body) > 3", "could not be evaluated (line "),
        unclear("throw new IllegalStateException('no idea')", "): no idea"));

    @TestFactory Stream<DynamicTest> aLineOfHealthyIsACondition() {
        List<String> rules = new ArrayList<>(List.of("boolean isGood(int code) { code == 200 }"));
        for (int n = 0; n < CASES.size(); n++)
            rules.add("watch('w" + n + "') { url '" + at("/json") + "'; attempts 1; healthy {\n"
                + CASES.get(n).conditions() + "\n} }");
        Run run = home(String.join("\n", rules)).watchdog("check", "--json");
        assertEquals("", run.err());
        Map<String, Map<String, Object>> met = watches(run);
        return IntStream.range(0, CASES.size()).mapToObj(n ->
            DynamicTest.dynamicTest(CASES.get(n).conditions(), () -> {
            Case expected = CASES.get(n);
            assertEquals(expected.verdict(), met.get("w" + n).get("verdict"), met.get("w" + n)::toString);
            if (expected.reason() != null) says((String) met.get("w" + n).get("reason"),
                expected.reason().replaceAll("line \\d+", "line " + lineOf(rules, n)));
        }));
    }

    private static long lineOf(List<String> rules, int watch) {
        return rules.subList(0, watch + 1).stream().flatMap(String::lines).count() + 2;
    }

    @Test void theValuesMetStandOnTheLineAndCheckShowsThemAsADiagramToo() {
        Run run = home("""
            watch('plex') {
                url '%s'
                attempts 1
                healthy { status == 200 && body.contains('Plex') }
            }
            """.formatted(at("/"))).watchdog("check", "--verbose");
        says(run.out(),
            "plex  unhealthy    expected status == 200 && body.contains('Plex'), but status was 401");
        says(run.out(), """
            status == 200 && body.contains('Plex')
            |      |      |
            401    false  false""".indent(4).stripTrailing());
    }

    @Test void aConditionThatThrowsRestartsNothing() {
        Run run = home("""
            watch('plex') {
                url '%s'
                attempts 1
                healthy { Integer.parseInt(body) == 3 }
                restart { run 'touch restarted' }
            }
            """.formatted(at("/json"))).watchdog();
        assertEquals(3, run.exit(), run.toString());
        says(run.out(), "plex  inconclusive a condition could not be evaluated (line 4 of the rules): "
            + "NumberFormatException");
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    @Test void aHugeBodyDoesNotFloodTheOutput() {
        Run run = home("""
            watch('huge') { url '%1$s'; attempts 1; \
            healthy { body.startsWith('needle') && body.contains('thimble') } }
            """.formatted(at("/huge"))).watchdog("check", "--verbose");
        assertEquals(1, run.exit());
        says(run.out(), "body.startsWith('needle') && body.contains('thimble'); got HTTP 200, 'needlexxx");
        assertTrue(run.out().length() < 2_000, () -> run.out().length() + " characters");
    }

    @Test void aCauseSeesTheAnswerAndTheError() {
        Run run = home("""
            watch('a') {
                url '%s'
                attempts 1
                within 1.millisecond
                restart(when: { error == refused }) { run 'touch wrong' }
                restart(when: { status == 401 && header('X-Two') == 'yes' && error == none }) \
            { run 'touch right' }
                restart { run 'touch otherwise' }
            }
            watch('b') {
                tcp 'localhost:1'
                attempts 1
                within 1.millisecond
                restart(when: { error != refused }) { run 'touch wrong' }
                restart(when: { error in [refused, timeout] }) { run 'touch refused' }
            }
            """.formatted(at("/"))).watchdog();
        assertEquals(1, run.exit(), run.toString());
        assertAll(Stream.of("right", "refused").map(made -> () ->
            assertTrue(Files.exists(folder.resolve(made)), run.toString())));
        assertAll(Stream.of("wrong", "otherwise").map(made -> () ->
            assertFalse(Files.exists(folder.resolve(made)), run.toString())));
    }

    // ---- compiled once --------------------------------------------------------------------------------

    private static final String TWO_SIDES = "watch('a') { url '%s'; attempts 1; healthy { status == %d } }\n";

    private List<Path> compiled(TestFolder home) throws IOException {
        try (Stream<Path> files = Files.list(home.state().resolve("compiled"))) {
            return files.filter(file -> !file.getFileName().toString().startsWith("last-good")).toList();
        }
    }

    @Test void anEditTakesEffectInTheNextPass() {
        TestFolder home = home(TWO_SIDES.formatted(at("/"), 401));
        assertEquals(0, home.watchdog().exit());
        assertEquals(1, home.rules(TWO_SIDES.formatted(at("/"), 200)).watchdog().exit());
        assertEquals(0, home.rules(TWO_SIDES.formatted(at("/"), 401)).watchdog().exit());
    }

    @Test void unchangedRulesAreCompiledOnce() throws IOException {
        TestFolder home = home(TWO_SIDES.formatted(at("/"), 401));
        home.watchdog();
        Path classes = compiled(home).get(0);
        FileTime long_ago = FileTime.fromMillis(1_000_000);
        Files.setLastModifiedTime(classes, long_ago);
        assertEquals(0, home.watchdog().exit());
        assertEquals(List.of(classes), compiled(home));
        assertEquals(long_ago, Files.getLastModifiedTime(classes));
    }

    /** One that has no text yet is being compiled by another command; one that is old was left behind. */
    @Test void whatAnotherCommandIsCompilingIsLeftAlone() throws IOException {
        TestFolder home = home(TWO_SIDES.formatted(at("/"), 401));
        home.watchdog();
        Path folder = compiled(home).get(0).getParent();
        Files.createDirectory(folder.resolve("new-now"));
        Path left = Files.createDirectory(folder.resolve("new-left"));
        Files.setLastModifiedTime(left, FileTime.fromMillis(1_000_000));
        home.rules(TWO_SIDES.formatted(at("/"), 200)).watchdog();
        List<String> names = compiled(home).stream().map(path -> path.getFileName().toString()).toList();
        assertEquals(2, names.size(), names.toString());
        assertTrue(names.contains("new-now"), names.toString());
    }

    @Test void damagedCompiledRulesAreCompiledAgain() throws IOException {
        TestFolder home = home(TWO_SIDES.formatted(at("/"), 401));
        home.watchdog();
        Path classes = compiled(home).get(0).resolve("rules.class");
        byte[] good = Files.readAllBytes(classes);
        for (byte[] damaged : List.of(new byte[good.length], Arrays.copyOf(good, 100), new byte[0])) {
            Files.write(classes, damaged);
            Run run = home.watchdog();
            assertEquals(0, run.exit(), run.toString());
            assertEquals("", run.err());
            assertEquals(good.length, Files.size(classes));
        }
    }

    @Test void anEditThatDoesNotCompileLeavesTheLastGoodRulesOnWatchAndIsToldOnce() throws IOException {
        TestFolder home = new TestFolder(folder).file("say.sh",
            "#!/bin/sh\necho \"$1\" >> \"$(dirname \"$0\")/said\"\n");
        folder.resolve("say.sh").toFile().setExecutable(true);
        String good = "notify command('./say.sh')\n" + TWO_SIDES.formatted(at("/"), 401);
        assertEquals(0, home.rules(good).watchdog().exit());
        home.rules(good.replace("attempts", "atempts"));
        Run first = home.watchdog(), second = home.watchdog();
        assertAll(
            () -> assertEquals(2, first.exit()),
            () -> says(first.out(), "a  healthy"),
            () -> says(first.err(), "no such word 'atempts' in watch { }; did you mean 'attempts'?"),
            () -> says(first.err(), "watchdog: rules.groovy has mistakes; using the last working rules"),
            () -> assertEquals(2, second.exit()),
            () -> assertEquals(1, said().stream().filter(line ->
                line.contains("rules.groovy has mistakes")).count(), said().toString()));
        assertEquals(0, home.rules(good).watchdog().exit());
    }

    /** Its thread must not run on beside the pass; a line number that no other test has tells it. */
    @Test void anEditThatNeverEndsIsEndedAndLeavesTheLastGoodRulesOnWatch() {
        TestFolder home = home(TWO_SIDES.formatted(at("/"), 401));
        assertEquals(0, home.watchdog().exit());
        home.rules("\n".repeat(7000) + "watch('b') { tcp 'localhost:1'; restart { while (true) { } } }\n");
        Run run = home.watchdog().exits(2).says("a  healthy").errs("is there an endless loop?");
        run.errs("using the last working rules");
        Wait.until("the thread of the edit ends", () -> Thread.getAllStackTraces().values().stream()
            .flatMap(Arrays::stream).noneMatch(frame -> frame.getLineNumber() == 7001
                && "rules.groovy".equals(frame.getFileName())));
    }

    private List<String> said() throws IOException { return Files.readAllLines(folder.resolve("said")); }

    // ---- the reference --------------------------------------------------------------------------------

    private static final Path REFERENCE = Path.of("docs/reference.groovy");

    @Test void helpRulesPrintsTheReference() throws IOException {
        assertEquals(Files.readString(REFERENCE), home("").watchdog("help", "rules").out());
    }

    @Test void theShippedRulesAreGood() throws IOException {
        TestFolder home = home(Files.readString(Path.of("rules.groovy")))
            .env("PUSHOVER_TOKEN", "x".repeat(30)).env("PUSHOVER_USER", "x".repeat(30));
        List<String> wrong = home.watchdog("validate").err().lines()
            .filter(line -> !line.contains(": under cron, ")).toList();
        assertEquals(List.of(), wrong);
    }

    @Test void everyPublicWordStandsInTheReference() throws IOException {
        String reference = Files.readString(REFERENCE);
        Set<String> missing = new TreeSet<>();
        for (Class<?> words : List.of(Language.RulesScript.class, Language.SharedWords.class,
            Language.WatchSpec.class, Language.Conditions.class, Language.RemedySpec.class,
                 Language.ServerCertificate.class, Model.Event.class))
            for (Method method : words.getDeclaredMethods()) {
                String word = word(method);
                if (isWord(method) && !reference.matches("(?s).*\\b" + word
                    + "\\b.*")) missing.add(words.getSimpleName() + "." + word);
            }
        for (Class<?> words : List.of(Language.SharedWords.class, Language.WatchSpec.class,
            Language.Conditions.class))
            for (Field word : words.getFields())
                if (!reference.matches("(?s).*\\b" + word.getName()
                    + "\\b.*")) missing.add(words.getSimpleName() + "." + word.getName());
        assertEquals(Set.of(), missing);
    }

    private static boolean isWord(Method method) {
        return Modifier.isPublic(method.getModifiers()) && !method.isSynthetic()
            && !Set.of("toString", "hashCode", "equals").contains(method.getName());
    }

    private static String word(Method method) {
        String name = method.getName();
        if (!name.matches("get[A-Z].*")) return name.replaceFirst("Word$", "");
        return Character.toLowerCase(name.charAt(3)) + name.substring(4);
    }

    @Test void theReferenceLoads() throws IOException {
        TestFolder home = home(Files.readString(REFERENCE));
        for (String secret : List.of("PUSHOVER_TOKEN", "PUSHOVER_USER", "T", "U", "NTFY", "NTFY_PASSWORD",
            "KEY", "BOT", "PASSWORD", "TOKEN")) home.env(secret, "x".repeat(30));
        for (String secret : List.of("SLACK", "DISCORD")) home.env(secret, "https://hooks.example.com/x");
        home.file("ca.pem", new HeldCertificate.Builder().build().certificatePem());
        Run run = home.watchdog("validate");
        // The programs are examples, too.
        assertEquals(List.of(), run.err().lines().filter(line -> !line.contains(": under cron, ")).toList());
        says(run.out(), "own certificate authority: GET https://nas.local/");
    }
}
