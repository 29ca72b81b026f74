import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonOutput;
import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Clock;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import okhttp3.HttpUrl;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What nobody may read, and what nobody else may write. */
class SecretsTest {

    private static final String CANARY = "canary/\"token=4k711&x";

    /** What people read, by situation. */
    private static final Map<String, String> SENTENCES = Map.ofEntries(
        entry("not NAME=value", "line 2 of %s is not NAME=value; put NAME=value (3 characters "),
        entry("readable secrets", "other users can read %s; fix it with: chmod 600 '%1$s'"),
        entry("hook left out",
            "rules.groovy:5: the secret SLACK is missing, so slack sends nothing; put NAME=value%s"),
        entry("where to put it", " (3 characters or more) into %s (chmod 600) or into the environment"),
        entry("inconclusive", "a  inconclusive cannot be checked: the secret TOKEN is missing"),
        entry("not asked", "rules.groovy:1: the secret %s is missing, so a is not checked; put NAME=value ("),
        entry("restart would fail",
            "rules.groovy:2: the secret TWO is missing, so this restart would fail; put NAME=value ("),
        entry("others can write", "watchdog: cannot use %2$s: other users can change %s; "
            + "fix it with: chmod go-w '%1$s'\n"),
        entry("others own", "watchdog: cannot use %s: %1$s belongs to user nobody, who could change it; "
            + "fix it with: chown 0 '%1$s'\n"));

    private static String sentence(String situation, Object... values) {
        return SENTENCES.get(situation).formatted(values);
    }

    private final List<String> told = new CopyOnWriteArrayList<>(), asked = new CopyOnWriteArrayList<>();
    private MockWebServer server;
    @TempDir Path folder;
    private TestFolder home;

    /** A server that says back whatever it was told, as an error page of a careless service would. */
    @BeforeEach void serve() throws IOException {
        home = new TestFolder(folder);
        server = new MockWebServer();
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                String body = request.getBody() == null ? "" : request.getBody().utf8();
                if (request.getUrl().encodedPath().startsWith("/hook")) {
                    told.add(body);
                    return new MockResponse.Builder().code(200).build();
                }
                asked.add(String.valueOf(request.getHeaders().get("Authorization")));
                String path = request.getUrl().encodedPath();
                String pad = path.startsWith("/pad") ? "x".repeat(Integer.parseInt(path.substring(4))) : "";
                return new MockResponse.Builder().code(500)
                    .addHeader("X-Echo", String.valueOf(request.getHeaders().get("X-Key")))
                    .body(pad + request.getUrl() + " " + request.getHeaders().get("Authorization") + " "
                        + request.getHeaders() + body + " " + CANARY).build();
            }
        });
        server.start();
    }

    @AfterEach void stopServing() { server.close(); }

    @Test void commandsDoNotInheritASecretThatOnlyAConditionReads() {
        home.env("LATE", "late-canary").env("KEPT", "kept-value").rules("""
            watch('it') {
                command 'true'
                attempts 1
                healthy { body == secret('LATE') }
                restart { sh 'env >variables' }
                within 10.milliseconds
            }
            """).watchdog();
        String variables = String.join(" ", home.lines("variables"));
        says(variables, "kept-value");
        assertFalse(variables.contains("late-canary"), variables);
    }

    /** An error, and not only an exception, where no command expects one. */
    @Test void aBugIsToldWithoutSecretsAndIsNoVerdict() {
        home.env("KEY", "canary-of-a-bug").rules("def k = secret('KEY')\nwatch('it') { command 'true' }\n");
        home.clock = new Clock() {
            @Override public Instant instant() {
                boolean inPass = StackWalker.getInstance().walk(frames -> frames // after the checks
                    .map(StackWalker.StackFrame::getClassName).takeWhile(name -> !name.equals("Checker"))
                    .anyMatch("Pass"::equals));
                if (inPass) throw new NoClassDefFoundError("canary-of-a-bug");
                return Instant.now();
            }
            @Override public java.time.ZoneId getZone() { return java.time.ZoneOffset.UTC; }
            @Override public Clock withZone(java.time.ZoneId zone) { return this; }
        };
        for (Run run : List.of(home.watchdog(), home.watchdog("--quiet"), home.watchdog("check", "--json"))) {
            run.exits(4).errs("watchdog: a bug, please report it: java.lang.NoClassDefFoundError: ***");
            assertFalse((run.out() + run.err()).contains("canary"), run.toString());
            assertEquals(1, run.err().lines().count());
        }
    }

    private String at(String path) { return server.url(path).toString(); }

    private Path secrets(String text, String mode) throws IOException {
        Path file = Files.writeString(folder.resolve("rules.secrets"), text);
        return Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(mode));
    }

    private static void says(String all, String part) {
        assertTrue(all.contains(part), () -> "«" + part + "» is not in: " + all);
    }

    // ---- where they come from ---------------------------------------------------------------------------

    private static final String BEARER = "watch('a') { url '%s'; attempts 1; bearer secret('TOKEN') }\n";

    private String bearer() {
        home.rules(BEARER.formatted(at("/"))).watchdog("check");
        return asked.isEmpty() ? "nothing asked" : asked.get(0).replaceFirst("^Bearer ", "");
    }

    @Test void aMissingSecretPointsAtALineThatIsNone() throws IOException {
        secrets("# mine\nTOKEN 4k711\n", "rw-------");
        Run run = home.rules(BEARER.formatted(at("/"))).watchdog("validate");
        assertEquals(2, run.exit());
        says(run.err(), sentence("not NAME=value", folder.resolve("rules.secrets")));
        assertFalse(run.err().contains("4k711"), run.err());
    }

    @Test void theEnvironmentComesFirst() throws IOException {
        secrets("TOKEN=from-file\n", "rw-------");
        home.env("TOKEN", "from-environment");
        assertEquals("from-environment", bearer());
    }

    @Test void elseTheFileBesideTheRulesIsRead() throws IOException {
        secrets("# mine\nOTHER=x\n TOKEN = 'from file' \n", "rw-------");
        assertEquals("from file", bearer());
    }

    @ParameterizedTest @ValueSource(strings = {"TOKEN=from # a note", "export TOKEN=from",
        " TOKEN = 'from' # x", "TOKEN=\"from\"", "TOKEN='from' "})
    void aLineMayHaveQuotesAndAComment(String line) throws IOException {
        secrets(line + "\nOTHER=\"x # y\" # z\n", "rw-------");
        assertEquals("from", bearer());
        assertEquals("x # y", new Secrets(Map.of(), folder.resolve("rules.groovy")).get("OTHER"));
    }

    @ParameterizedTest @ValueSource(strings = {"rw-r-----", "rw----r--"})
    void aSecretsFileThatOthersCanReadIsRefusedWithTheCommandThatMendsIt(String mode) throws IOException {
        Path file = secrets("TOKEN=from-file\n", mode);
        home.rules("watch('a') { command 'true'; notify slack(url: secret('TOKEN')) }\n");
        Run run = home.watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), sentence("readable secrets", file));
        assertFalse((run.out() + run.err()).contains("from-file"));
    }

    // ---- missing ones -----------------------------------------------------------------------------------

    private TestFolder withoutSecret() {
        return home.rules("""
            watch('a') {
                command 'test -e healed'
                attempts 1
                restart { run 'touch healed' }
                notify slack(url: secret('SLACK')), orElse: command('touch told')
                notify webhook('%s')
            }
            """.formatted(at("/hook")));
    }

    @Test void validateRefusesAMissingSecretAndSaysWhereToPutIt() {
        Run run = withoutSecret().watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        String place = sentence("where to put it", folder.resolve("rules.secrets"));
        says(run.err(), sentence("hook left out", place));
    }

    @Test void aPassLeavesOutThatHookSaysSoAndHealsAllTheSame() {
        Run run = withoutSecret().watchdog();
        assertAll(
            () -> assertEquals(2, run.exit(), run.toString()),
            () -> says(run.out(), "a  healed"),
            () -> says(run.err(), sentence("hook left out", "")),
            () -> assertEquals(2, told.size(), told.toString()),
            () -> assertTrue(Files.exists(home.folder.resolve("told")), "by the fallback"));
    }

    @Test void aWatchWhoseOwnSecretIsMissingIsInconclusiveAndIsNotAskedFor() {
        Run run = home.rules("""
            watch('a') { url '%s'; attempts 1; bearer secret('TOKEN'); restart { run 'touch restarted' } }
            """.formatted(at("/"))).watchdog();
        assertEquals(2, run.exit(), run.toString());
        says(run.out(), sentence("inconclusive"));
        says(run.err(), sentence("not asked", "TOKEN"));
        assertEquals(List.of(), asked);
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    @ParameterizedTest @ValueSource(strings = {"url '%s'; basicAuth secret('TOKEN'), 'x'",
        "url '%s'; basicAuth 'x', secret('TOKEN')",
        "url '%s'; connectTo \"${secret('TOKEN')}:80\"", "tcp \"${secret('TOKEN')}:80\"",
        "command \"true ${secret('TOKEN')}\"", "command 'true'; healthy { body == secret('TOKEN') }"})
    void aMissingSecretIsNoReasonToRestart(String words) {
        Run run = home.rules("watch('a') { %s; attempts 1; restart { run 'touch restarted' } }\n"
            .formatted(words.replace("%s", at("/")))).watchdog();
        says(run.out(), "a  inconclusive");
        says(run.out(), "the secret TOKEN is missing");
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    /** cron mails what is printed, and there are 288 passes a day. */
    @Test void quietSaysOnceThatASecretIsMissingOrAMessageIsNotAccepted() {
        home.rules("""
            notify command('/bin/false')
            watch('a') { command 'false'; attempts 1; notify slack(url: secret('SLACK')) }
            """);
        Run first = home.watchdog("--quiet"), second = home.watchdog("--quiet");
        assertEquals(List.of(2, 2), List.of(first.exit(), second.exit()), first.toString());
        says(first.err(), "the secret SLACK is missing");
        says(first.err(), "command false: not accepted");
        assertEquals("", second.out() + second.err());
        says(home.watchdog().err(), "the secret SLACK is missing");
    }

    @Test void aRestartWithoutItsSecretStopsNothing() {
        home.rules("""
            watch('a') {
                command 'false'
                attempts 1
                restart { run 'touch stopped'; run "echo ${secret('ONE')}" }
            }
            """);
        Run run = home.watchdog().exits(2);
        says(run.out(), "a  unhealthy    expected exit code 0, but it was 1; the secret ONE is missing");
        says(run.err(), "rules.groovy:4: the secret ONE is missing, so this restart would fail");
        assertFalse(Files.exists(folder.resolve("stopped")));
    }

    @Test void validateRefusesAWatchWhoseSecretIsMissing() {
        Run run = home.rules(BEARER.formatted(at("/"))).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), "the secret TOKEN is missing");
    }

    @Test void validateRefusesACommandAndARestartWhoseSecretIsMissing() {
        Run run = home.rules("""
            watch('a') { command "echo ${secret('ONE')}" }
            watch('b') { command 'true'; restart { run "echo ${secret('TWO')}" } }
            """).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), sentence("not asked", "ONE"));
        says(run.err(), sentence("restart would fail"));
    }

    // ---- nowhere to be seen -----------------------------------------------------------------------------

    /** The ways in which a secret may be written: as it is, in a URL, in basic authentication. */
    private static final List<String> SHAPES = List.of(CANARY, "canary", "4k711", CANARY.substring(0, 5),
        URLEncoder.encode(CANARY, StandardCharsets.UTF_8),
        Base64.getEncoder().encodeToString(("me:" + CANARY).getBytes(StandardCharsets.UTF_8)));

    private static void clean(String what, String text) {
        for (String shape : SHAPES) {
            int at = text.indexOf(shape);
            assertTrue(at < 0, () -> what + " shows " + shape + ": …"
                + text.substring(Math.max(0, at - 80), Math.min(text.length(), at + 80)));
        }
    }

    @Test void aSecretIsNowhereInOutputMemoryHistoryOrMessagesEvenWhenTheServerEchoesIt() throws IOException {
        secrets("TOKEN=" + CANARY + "\n", "rw-------");
        TestFolder careless = home.rules("""
            def t = secret('TOKEN')
            notify webhook('%1$s?key=' + t)
            notify webhook('http://127.0.0.1:1/?key=' + t)
            notify command("/bin/sh -c 'echo $t >&2; exit 3'")
            watch('url')    { url '%2$s?key=' + t; attempts 1; healthy { url == 'x' } }
            watch('bearer') { url '%2$s'; attempts 1; bearer t; healthy { body == 'x' } }
            watch('basic')  {
                url '%2$s'
                attempts 1
                basicAuth 'me', t
                healthy { body.contains('Basic x') }
            }
            watch('header') { url '%2$s'; attempts 1; header 'X-Key', t; healthy { header('X-Echo') == 'x' } }
            watch('body')   { url '%2$s'; attempts 1; send t; healthy { body.endsWith('x x') } }
            watch('known')  { url '%2$s'; attempts 1; healthy { body == t + 'x' } }
            watch('cut')    {
                url '%2$spad5?key=' + t
                attempts 1
                bearer t
                healthy { body == 'x' && url == 'y' }
            }
            watch('cut150') { url '%2$spad130?key=' + t; attempts 1; bearer t; healthy { body == 'x' } }
            watch('throws') { url '%2$s'; attempts 1; healthy { Integer.parseInt(body) == 3 } }
            watch('asks')   { command "/bin/sh -c 'echo $t; exit 1'"; attempts 1; healthy { body == 'x' } }
            watch('heals')  {
                command 'false'
                attempts 1
                within 1.millisecond
                restart { run(['/bin/sh', '-c', "echo '$t'; exit 7"]) }
            }
            watch('named')  { url 'http://user:' + 'canary4k711' + '@127.0.0.1:1/'; attempts 1 }
            """.formatted(at("/hook"), at("/")));
        List<Run> runs = new ArrayList<>();
        for (String words : List.of("--verbose", "--verbose", "--json", "--dry-run", "check --verbose",
                "status", "status --json", "validate", "tell"))
            runs.add(careless.watchdog(words.split(" ")));
        says(runs.get(0).out(), "url ");
        assertTrue(told.size() >= 3, told.toString());
        for (Run run : runs) {
            clean("stdout", run.out());
            clean("stderr", run.err());
        }
        told.forEach(message -> clean("a message", message));
        try (Stream<Path> kept = Files.walk(home.state())) {
            for (Path file : kept.filter(Files::isRegularFile)
                    .filter(file -> !file.toString().matches(".*/(compiled|last-good)/.*")).toList())
                clean(file.toString(), Files.readString(file, StandardCharsets.ISO_8859_1));
        }
    }

    private static final List<String> CANARIES = List.of("Kq.*+?[](){}|^$\\Zw-vB", "Kq%2F%25%zz%Zw%41vB",
        " Kq9 zW\tvB7\n Xj4  Pm\n", "Kqäß☃'ü\"Zw<&>vB", "/Kq9/zW7/vB3'Xj", "Kq9zW7vB3Xj5Pm2", "Kq9");

    /** How servers write back what they were sent. */
    /** Such as a token of a web service: of what a command prints, only the end is shown. */
    @Test void aLongSecretThatIsCutIsHidden() {
        String token = java.util.stream.IntStream.range(0, 200).mapToObj(i -> "t" + i).reduce("", String::concat);
        home.env("TOKEN", token).script("show", "echo \"$1$2\"; exit 3").rules("""
            watch('end')   { command './show begin ' + secret('TOKEN'); attempts 1 }
            watch('front') { command './show ' + secret('TOKEN') + ' end'; attempts 1 }
            """);
        Run run = home.watchdog("--verbose");
        assertFalse(run.toString().matches("(?s).*t1\\d+t1\\d+.*"), run.toString());
        says(run.out(), "***");
    }

    private static List<String> written(String canary) {
        String json = JsonOutput.toJson(canary), query = new HttpUrl.Builder().scheme("http").host("x")
            .addPathSegment(canary).addQueryParameter("q", canary).build().toString();
        return List.of(canary, json.substring(1, json.length() - 1), URLEncoder.encode(canary,
            StandardCharsets.UTF_8), query, canary.replace("&", "&amp;").replace("<", "&lt;")
            .replace(">", "&gt;").replace("\"", "&quot;"), Base64.getEncoder().encodeToString(("me:" + canary)
            .getBytes(StandardCharsets.UTF_8)));
    }

    /** Cut at each place: by what shows the beginning of a body, and the last words of a command. */
    @TestFactory Stream<DynamicTest> noPartOfASecretIsShownHoweverItIsWrittenAndCut() {
        return CANARIES.stream().map(canary -> dynamicTest(canary.replaceAll("\\s", "_"), () -> {
            List<String> written = written(canary);
            for (int i = 0; i < 24; i++)
                home.file("text." + i, "a ".repeat(3 * i) + written.get(i % 6) + "b ".repeat(150 - 3 * i));
            home.script("hook", "echo \"$@ $WATCHDOG_TITLE $WATCHDOG_TEXT\" >>messages; env >>environment");
            home.script("show", "cat text.$1; exit 3").file("messages", "").env("TOKEN", canary).rules("""
                def t = secret('TOKEN')
                notify command('./hook')
                watch('basic') { url 'http://127.0.0.1:1/'; basicAuth 'me', t; attempts 1 }
                for (i in 0..23) watch("w$i") {
                    command "./show $i"
                    attempts 1
                    within 1.millisecond
                    healthy { body == 'x' }
                    restart { run "./show $i" }
                }
                """);
            StringBuilder shown = new StringBuilder();
            for (String words : List.of("--verbose", "status", "status --json", "log", "check --json"))
                shown.append(home.watchdog(words.split(" ")));
            shown.append(Files.readString(folder.resolve("messages")));
            for (String file : List.of("memory.json", "incidents.jsonl", "history.jsonl"))
                shown.append(Files.readString(home.state().resolve(file)));
            says(shown.toString(), "***");
            says(Files.readString(folder.resolve("environment")), "WATCHDOG_TEXT");
            assertFalse(Files.readAllLines(folder.resolve("environment")).stream()
                .anyMatch(line -> line.startsWith("TOKEN=")), "a command does not get it");
            for (int i = 0; i < written.size(); i++) {
                String text = written.get(i).strip().replaceAll("\\s+", " ");
                int length = Math.min(text.length(), i == 0 ? 6 : 30);
                for (int at = 0; at + length <= text.length(); at++) {
                    int found = shown.indexOf(text.substring(at, at + length));
                    assertTrue(found < 0, () -> "shown: " + shown.substring(Math.max(0, found - 200)));
                }
            }
        }));
    }

    /** Terminals obey some of these characters, and readers are misled by the others. */
    @Test void nothingFromOutsideKeepsItsControlCharacters() throws IOException {
        String hostile = "\u001b[31m\u009b31m\u0085\u2028\u2029\u202e\u2066\u200b\u0007\b\rx";
        home.file("text", hostile).script("show", "cat text; exit 3");
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                if (request.getUrl().encodedPath().startsWith("/hook")) told.add(request.getBody().utf8());
                return new MockResponse.Builder().code(302).body(hostile + "<title>" + hostile + "</title>")
                    .addHeader("X-A", hostile.replaceAll("[^\\x20-\\x7e]", "") + "b")
                    .addHeaderLenient("Location", "/x\u009b31m").build();
            }
        });
        home.rules("""
            notify webhook('%1$shook'), orElse: command('./show')
            watch('body')    { url '%1$s'; attempts 1; healthy { body == 'x' } }
            watch('status')  { url '%1$s'; attempts 1; restart { run './show' }; within 1.millisecond }
            watch('header')  { url '%1$s'; attempts 1; healthy { header('X-A') == 'x' && headers == null } }
            watch('number')  { url '%1$s'; attempts 1; healthy { Integer.parseInt(body) == 3 } }
            watch('json')    { url '%1$s'; attempts 1; healthy { json('a') == 3 } }
            watch('command') { command './show'; attempts 1 }
            """.formatted(at("/")));
        StringBuilder shown = new StringBuilder(String.join("", told));
        for (String words : List.of("--verbose", "--json", "status", "log", "check --json", "tell"))
            shown.append(home.watchdog(words.split(" ")));
        shown.append(told).append(Files.readString(home.state().resolve("memory.json")));
        Matcher control = Pattern.compile("[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}&&[^\n]]").matcher(shown);
        assertFalse(control.find(), () -> "shown: " + shown.substring(Math.max(0, control.start() - 100)));
    }

    @Test void theSecretItselfReachesTheServiceThatItIsFor() throws IOException {
        secrets("TOKEN=" + CANARY + "\n", "rw-------");
        assertEquals(CANARY, bearer());
    }

    @Test void aMistakeThatQuotesASecretDoesNotShowIt() {
        home.env("TOKEN", CANARY).rules("watch('a') { url secret('TOKEN') }\n");
        Run run = home.watchdog("validate");
        assertEquals(2, run.exit());
        clean("stderr", run.err());
    }

    // ---- who may write ----------------------------------------------------------------------------------

    private static final String MARKING = """
        new File('%s').text = 'ran'
        watch('a') { command 'true' }
        this does not compile
        """;

    private void refusedBeforeCompiling(Path writable) throws IOException {
        Files.setPosixFilePermissions(writable, PosixFilePermissions.fromString("rwxrwxrwx"));
        Run run = new TestFolder(folder).watchdog("--rules", "rules.d/rules.groovy");
        assertEquals(2, run.exit(), run.toString());
        Path rules = folder.resolve("rules.d/rules.groovy");
        assertEquals(sentence("others can write", writable.toRealPath(), rules), run.err());
        assertFalse(Files.exists(folder.resolve("mark")));
    }

    private Path nested() throws IOException {
        Path inner = Files.createDirectory(folder.resolve("rules.d"));
        return Files.writeString(inner.resolve("rules.groovy"), MARKING.formatted(folder.resolve("mark")));
    }

    @Test void rulesThatOthersCanWriteAreRefusedBeforeTheyAreCompiled() throws IOException {
        refusedBeforeCompiling(nested());
    }

    @Test void rulesInAFolderThatOthersCanWriteAreRefusedBeforeTheyAreCompiled() throws IOException {
        refusedBeforeCompiling(nested().getParent());
    }

    /** The mode is that of umask 002 in a private group, but the access list lets another user write. */
    @Test void rulesThatAnAccessListOpensAreRefused() throws Exception {
        Path rules = nested();
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/python3")), "no python3 to write an access list");
        String list = "import os, struct, sys; os.setxattr(sys.argv[1], 'system.posix_acl_access', "
            + "struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in ((1, 6, 2**32 - 1), "
            + "(2, 6, 65534), (4, 0, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))))";
        var written = new ProcessBuilder("/usr/bin/python3", "-c", list, rules.toString()).start().waitFor();
        assumeTrue(written == 0, "this file system has no access lists");
        TestFolder home = new TestFolder(folder);
        home.watchdog("--rules", "rules.d/rules.groovy").exits(2).errs("other users can change");
        Files.setPosixFilePermissions(rules, PosixFilePermissions.fromString("rw-r-----"));
        home.watchdog("--rules", "rules.d/rules.groovy").exits(2).errs("no such word");
    }

    @Test void theFileBehindALinkIsWhatCounts() throws IOException {
        Path real = nested(), link = Files.createSymbolicLink(folder.resolve("link.groovy"), real);
        Files.setPosixFilePermissions(real, PosixFilePermissions.fromString("rw-rw-rw-"));
        Run run = new TestFolder(folder).watchdog("--rules", link.getFileName().toString());
        assertEquals(2, run.exit());
        assertEquals(sentence("others can write", real.toRealPath(), link), run.err());
    }

    @Test void rulesOfAnotherUserAreRefused() throws IOException {
        assumeTrue("root".equals(System.getProperty("user.name")), "only root can give a file away");
        Path rules = nested();
        var users = rules.getFileSystem().getUserPrincipalLookupService();
        Files.setOwner(rules, users.lookupPrincipalByName("nobody"));
        Run run = new TestFolder(folder).watchdog("--rules", rules.toString());
        assertEquals(2, run.exit());
        assertEquals(sentence("others own", rules.toRealPath()), run.err());
    }

    // ---- what we write ----------------------------------------------------------------------------------

    @ParameterizedTest @ValueSource(strings = {"000", "077"})
    void theStateIsOursAloneWhateverTheUmask(String umask) throws Exception {
        Path rules = Files.writeString(folder.resolve("rules.groovy"), """
            notify webhook('http://127.0.0.1:1/')
            watch('a') { url '%s'; attempts 1; within 1.millisecond; restart { run 'true' } }
            """.formatted(at("/")));
        Files.setPosixFilePermissions(rules, PosixFilePermissions.fromString("rw-------"));
        String shell = "umask " + umask + "; exec \"$@\"";
        List<String> words = new ArrayList<>(List.of("/bin/sh", "-c", shell, "sh"));
        words.addAll(Run.process());
        ProcessBuilder builder = new ProcessBuilder(words).directory(folder.toFile())
            .redirectErrorStream(true).redirectOutput(folder.resolve("log").toFile());
        builder.environment().put("HOME", folder.toString());
        builder.environment().remove("XDG_STATE_HOME");
        assertEquals(1, builder.start().waitFor(), () -> log());
        List<String> open = new ArrayList<>();
        try (Stream<Path> all = Files.walk(folder.resolve(".local/state/watchdog"))) {
            for (Path path : all.toList()) {
                String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
                String expected = Files.isDirectory(path) ? "rwx------" : "rw-------";
                if (!mode.equals(expected)) open.add(mode + " " + path);
            }
        }
        assertEquals(List.of(), open);
        assertTrue(Files.exists(home.state().resolve("memory.json")));
    }

    private String log() {
        try {
            return Files.readString(folder.resolve("log"));
        } catch (IOException e) {
            return e.toString();
        }
    }

    /** As the conditions of many watches do, side by side. */
    @Test void whoAsksWhileTheFileIsReadWaitsForItsValue() throws Exception {
        Files.writeString(folder.resolve("rules.secrets"), "#\n".repeat(100_000) + "TOKEN=value\n");
        Files.setPosixFilePermissions(folder.resolve("rules.secrets"),
            PosixFilePermissions.fromString("rw-------"));
        Secrets secrets = new Secrets(Map.of(), folder.resolve("rules.groovy"));
        var values = Stream.generate(() ->
            DaemonThreads.POOL.submit(() -> secrets.get("TOKEN"))).limit(16).toList();
        for (var value : values) assertEquals("value", value.get());
    }
}
