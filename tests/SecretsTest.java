import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Stream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What nobody may read, and what nobody else may write. */
class SecretsTest {

    private static final String CANARY = "canary/\"token=4711&x";

    private final List<String> told = new CopyOnWriteArrayList<>(), asked = new CopyOnWriteArrayList<>();
    private MockWebServer server;
    @TempDir Path folder;
    private Run.Desk desk;

    /** A server that says back whatever it was told, as an error page of a careless service would. */
    @BeforeEach void serve() throws IOException {
        desk = new Run.Desk(folder);
        server = new MockWebServer();
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                String body = request.getBody() == null ? "" : request.getBody().utf8();
                if (request.getUrl().encodedPath().startsWith("/hook")) {
                    told.add(body);
                    return new MockResponse.Builder().code(200).build();
                }
                asked.add(String.valueOf(request.getHeaders().get("Authorization")));
                String pad = request.getUrl().encodedPath().startsWith("/pad") ? "x".repeat(Integer.parseInt(request.getUrl().encodedPath().substring(4))) : "";
                return new MockResponse.Builder().code(500).addHeader("X-Echo", String.valueOf(request.getHeaders().get("X-Key")))
                    .body(pad + request.getUrl() + " " + request.getHeaders().get("Authorization") + " " + request.getHeaders() + body + " " + CANARY).build();
            }
        });
        server.start();
    }

    @AfterEach void stopServing() { server.close(); }

    private String at(String path) { return server.url(path).toString(); }

    private Path secrets(String text, String mode) throws IOException {
        Path file = Files.writeString(folder.resolve("rules.secrets"), text);
        return Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(mode));
    }

    private static void says(String all, String part) {
        assertTrue(all.contains(part), () -> "«" + part + "» is not in: " + all);
    }

    // ---- where they come from -----------------------------------------------------------------------------------

    private static final String BEARER = "watch('a') { url '%s'; attempts 1; bearer secret('TOKEN') }\n";

    private String bearer() {
        desk.rules(BEARER.formatted(at("/"))).watchdog("check");
        return asked.isEmpty() ? "nothing asked" : asked.get(0).replaceFirst("^Bearer ", "");
    }

    @Test void aMissingSecretPointsAtALineThatIsNone() throws IOException {
        secrets("# mine\nTOKEN 4711\n", "rw-------");
        Run run = desk.rules(BEARER.formatted(at("/"))).watchdog("validate");
        assertEquals(2, run.exit());
        says(run.err(), "a line of " + folder.resolve("rules.secrets") + " is not NAME=value; put TOKEN=… into ");
        assertFalse(run.err().contains("4711"), run.err());
    }

    @Test void theEnvironmentComesFirst() throws IOException {
        secrets("TOKEN=from-file\n", "rw-------");
        desk.env("TOKEN", "from-environment");
        assertEquals("from-environment", bearer());
    }

    @Test void elseTheFileBesideTheRulesIsRead() throws IOException {
        secrets("# mine\nOTHER=x\n TOKEN = 'from file' \n", "rw-------");
        assertEquals("from file", bearer());
    }

    @ParameterizedTest @ValueSource(strings = {"rw-r-----", "rw----r--"})
    void aSecretsFileThatOthersCanReadIsRefusedWithTheCommandThatMendsIt(String mode) throws IOException {
        Path file = secrets("TOKEN=from-file\n", mode);
        Run run = desk.rules("watch('a') { command 'true'; notify slack(url: secret('TOKEN')) }\n").watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), file + " can be read by others; chmod 600 " + file);
        assertFalse((run.out() + run.err()).contains("from-file"));
    }

    // ---- missing ones -------------------------------------------------------------------------------------------

    private Run.Desk withoutSecret() {
        return desk.rules("""
            watch('a') {
                command 'test -e healed'
                attempts 1
                restart { run 'touch healed' }
                notify slack(url: secret('SLACK'))
                notify webhook('%s')
            }
            """.formatted(at("/hook")));
    }

    private static final String LEFT_OUT = "rules.groovy:5: the secret SLACK is missing, so slack is left out for a; put SLACK=… into ";

    @Test void validateRefusesAMissingSecretAndSaysWhereToPutIt() {
        Run run = withoutSecret().watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), LEFT_OUT + folder.resolve("rules.secrets") + " (chmod 600) or into the environment");
    }

    @Test void aPassLeavesOutThatHookSaysSoAndHealsAllTheSame() {
        Run run = withoutSecret().watchdog();
        assertAll(
            () -> assertEquals(2, run.exit(), run.toString()),
            () -> says(run.out(), "a  healed"),
            () -> says(run.err(), LEFT_OUT),
            () -> assertEquals(2, told.size(), told.toString()));
    }

    @Test void aWatchWhoseOwnSecretIsMissingIsInconclusiveAndIsNotAskedFor() {
        Run run = desk.rules("""
            watch('a') { url '%s'; attempts 1; bearer secret('TOKEN'); restart { run 'touch restarted' } }
            """.formatted(at("/"))).watchdog();
        assertEquals(2, run.exit(), run.toString());
        says(run.out(), "a  inconclusive cannot be checked: the secret TOKEN is missing");
        says(run.err(), "rules.groovy:1: the secret TOKEN is missing, so a is not asked; put TOKEN=… into ");
        assertEquals(List.of(), asked);
        assertFalse(Files.exists(folder.resolve("restarted")));
    }

    @Test void validateRefusesAWatchWhoseSecretIsMissing() {
        Run run = desk.rules(BEARER.formatted(at("/"))).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), "the secret TOKEN is missing");
    }

    @Test void validateRefusesACommandAndARestartWhoseSecretIsMissing() {
        Run run = desk.rules("""
            watch('a') { command "echo ${secret('ONE')}" }
            watch('b') { command 'true'; restart { run "echo ${secret('TWO')}" } }
            """).watchdog("validate");
        assertEquals(2, run.exit(), run.toString());
        says(run.err(), "rules.groovy:1: the secret ONE is missing, so a is not asked; put ONE=… into ");
        says(run.err(), "rules.groovy: b: the secret TWO is missing, so its restart would fail; put TWO=… into ");
    }

    // ---- nowhere to be seen -------------------------------------------------------------------------------------

    /** The ways in which a secret may be written: as it is, in a URL, in basic authentication. */
    private static final List<String> SHAPES = List.of(CANARY, "canary", "4711", CANARY.substring(0, 5), java.net.URLEncoder.encode(CANARY, StandardCharsets.UTF_8),
        Base64.getEncoder().encodeToString(("me:" + CANARY).getBytes(StandardCharsets.UTF_8)));

    private static void clean(String what, String text) {
        for (String shape : SHAPES) {
            int at = text.indexOf(shape);
            assertTrue(at < 0, () -> what + " shows " + shape + ": …" + text.substring(Math.max(0, at - 80), Math.min(text.length(), at + 80)));
        }
    }

    @Test void aSecretIsNowhereInOutputMemoryHistoryOrMessagesEvenWhenTheServerEchoesIt() throws IOException {
        secrets("TOKEN=" + CANARY + "\n", "rw-------");
        Run.Desk careless = desk.rules("""
            def t = secret('TOKEN')
            notify webhook('%1$s?key=' + t)
            notify webhook('http://127.0.0.1:1/?key=' + t)
            notify command("/bin/sh -c 'echo $t >&2; exit 3'")
            watch('url')    { url '%2$s?key=' + t; attempts 1; healthy { url == 'x' } }
            watch('bearer') { url '%2$s'; attempts 1; bearer t; healthy { body == 'x' } }
            watch('basic')  { url '%2$s'; attempts 1; basicAuth 'me', t; healthy { body.contains('Basic x') } }
            watch('header') { url '%2$s'; attempts 1; header 'X-Key', t; healthy { header('X-Echo') == 'x' } }
            watch('body')   { url '%2$s'; attempts 1; send t; healthy { body.endsWith('x x') } }
            watch('known')  { url '%2$s'; attempts 1; healthy { body == t + 'x' } }
            watch('cut')    { url '%2$spad5?key=' + t; attempts 1; bearer t; healthy { body == 'x' && url == 'y' } }
            watch('cut150') { url '%2$spad130?key=' + t; attempts 1; bearer t; healthy { body == 'x' } }
            watch('throws') { url '%2$s'; attempts 1; healthy { Integer.parseInt(body) == 3 } }
            watch('asks')   { command "/bin/sh -c 'echo $t; exit 1'"; attempts 1; healthy { body == 'x' } }
            watch('heals')  { command 'false'; attempts 1; within 1.millisecond; restart { run(['/bin/sh', '-c', "echo '$t'; exit 7"]) } }
            watch('named')  { url 'http://user:' + 'canary4711' + '@127.0.0.1:1/'; attempts 1 }
            """.formatted(at("/hook"), at("/")));
        List<Run> runs = new ArrayList<>();
        for (String words : List.of("--verbose", "--verbose", "--json", "--dry-run", "check --verbose", "status", "status --json", "validate", "tell"))
            runs.add(careless.watchdog(words.split(" ")));
        says(runs.get(0).out(), "url ");
        assertTrue(told.size() >= 3, told.toString());
        for (Run run : runs) {
            clean("stdout", run.out());
            clean("stderr", run.err());
        }
        told.forEach(message -> clean("a message", message));
        try (Stream<Path> kept = Files.walk(desk.state())) {
            for (Path file : kept.filter(Files::isRegularFile).filter(f -> !f.getParent().getFileName().toString().matches("compiled|last-good")).toList())
                clean(file.getFileName().toString(), new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1));
        }
    }

    @Test void theSecretItselfReachesTheServiceThatItIsFor() throws IOException {
        secrets("TOKEN=" + CANARY + "\n", "rw-------");
        assertEquals(CANARY, bearer());
    }

    @Test void aMistakeThatQuotesASecretDoesNotShowIt() {
        Run run = desk.env("TOKEN", CANARY).rules("watch('a') { url secret('TOKEN') }\n").watchdog("validate");
        assertEquals(2, run.exit());
        clean("stderr", run.err());
    }

    // ---- who may write ------------------------------------------------------------------------------------------

    private static final String MARKING = "new File('%s').text = 'ran'\nwatch('a') { command 'true' }\nthis does not compile\n";

    private void refusedBeforeCompiling(Path writable) throws IOException {
        Files.setPosixFilePermissions(writable, PosixFilePermissions.fromString("rwxrwxrwx"));
        Run run = new Run.Desk(folder).watchdog("--rules", "rules.d/rules.groovy");
        assertEquals(2, run.exit(), run.toString());
        assertEquals("watchdog: " + writable.toRealPath() + " can be written by others; chmod go-w '" + writable.toRealPath()
            + "' mends that\n", run.err());
        assertFalse(Files.exists(folder.resolve("mark")));
    }

    private Path nested() throws IOException {
        Path inner = Files.createDirectory(folder.resolve("rules.d"));
        return Files.writeString(inner.resolve("rules.groovy"), MARKING.formatted(folder.resolve("mark")));
    }

    @Test void rulesThatOthersCanWriteAreRefusedBeforeTheyAreCompiled() throws IOException { refusedBeforeCompiling(nested()); }

    @Test void rulesInAFolderThatOthersCanWriteAreRefusedBeforeTheyAreCompiled() throws IOException {
        refusedBeforeCompiling(nested().getParent());
    }

    @Test void theFileBehindALinkIsWhatCounts() throws IOException {
        Path real = nested(), link = Files.createSymbolicLink(folder.resolve("link.groovy"), real);
        Files.setPosixFilePermissions(real, PosixFilePermissions.fromString("rw-rw-rw-"));
        Run run = new Run.Desk(folder).watchdog("--rules", link.getFileName().toString());
        assertEquals(2, run.exit());
        says(run.err(), real.toRealPath() + " can be written by others");
    }

    @Test void rulesOfAnotherUserAreRefused() throws IOException {
        assumeTrue("root".equals(System.getProperty("user.name")), "only root can give a file away");
        Path rules = nested();
        Files.setOwner(rules, rules.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByName("nobody"));
        Run run = new Run.Desk(folder).watchdog("--rules", rules.toString());
        assertEquals(2, run.exit());
        says(run.err(), rules.toRealPath() + " belongs to nobody, who could change the rules; chown root it");
    }

    // ---- what we write ------------------------------------------------------------------------------------------

    @ParameterizedTest @ValueSource(strings = {"000", "077"})
    void theStateIsOursAloneWhateverTheUmask(String umask) throws Exception {
        Path rules = Files.writeString(folder.resolve("rules.groovy"), """
            watch('a') { url '%s'; attempts 1; within 1.millisecond; restart { run 'true' }; notify webhook('http://127.0.0.1:1/') }
            """.formatted(at("/")));
        Files.setPosixFilePermissions(rules, PosixFilePermissions.fromString("rw-------"));
        List<String> words = new ArrayList<>(List.of("/bin/sh", "-c", "umask " + umask + "; exec \"$@\"", "sh"));
        words.addAll(Run.process());
        ProcessBuilder builder = new ProcessBuilder(words).directory(folder.toFile()).redirectErrorStream(true)
            .redirectOutput(folder.resolve("log").toFile());
        builder.environment().put("HOME", folder.toString());
        builder.environment().remove("XDG_STATE_HOME");
        assertEquals(1, builder.start().waitFor(), () -> log());
        List<String> open = new ArrayList<>();
        try (Stream<Path> all = Files.walk(folder.resolve(".local/state/watchdog"))) {
            for (Path path : all.toList()) {
                String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
                if (!mode.equals(Files.isDirectory(path) ? "rwx------" : "rw-------")) open.add(mode + " " + path.getFileName());
            }
        }
        assertEquals(List.of(), open);
        assertTrue(Files.exists(desk.state().resolve("memory.json")));
    }

    private String log() {
        try {
            return Files.readString(folder.resolve("log"));
        } catch (IOException e) {
            return e.toString();
        }
    }
}
