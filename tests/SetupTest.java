import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** `watchdog setup` for a service on loopback, and for its example, which it does not request. */
class SetupTest {
    @TempDir private Path temp;
    private TestFolder home;
    private Path rules, secrets;

    @BeforeEach void aHome() throws IOException {
        Files.createDirectories(temp.resolve("bin"));
        home = new TestFolder(temp).env("PATH", temp.resolve("bin") + ":/usr/bin:/bin");
        rules = temp.resolve(".config/watchdog/rules.groovy");
        secrets = temp.resolve(".config/watchdog/rules.secrets");
    }

    @ParameterizedTest @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "200 | <MediaContainer machineIdentifier=\"1\"/> | status == 200; body.contains('machineIdentifier')",
        "401 | <html><title>401 Unauthorized</title> | status == 401; body.contains('401 Unauthorized')",
        "302 | moved | status == 302",
        "200 | <title>Ann's \\ $NAS</title> | status == 200; body.contains('Ann\\'s \\\\ $NAS')",
        "200 | {\"app\": \"x\", \"status\":\"UP\"} | status == 200; body.contains('\"status\":\"UP\"')",
        "200 | `<title>two\nlines</title>` | status == 200"})
    void theConditionsFitTheAnswerAndHold(int status, String body, String conditions) throws IOException {
        try (var service = new TestServer((path, sent) -> new TestServer.Answer(status, body))) {
            home.watchdog("setup", service.url()).exits(0).says("answers HTTP " + status)
                .says("service  healthy");
            assertEquals(conditions, healthy());
            home.watchdog("check").exits(0);
        }
    }

    /** What a broken service answers now is not what it should answer. */
    @ParameterizedTest @CsvSource({"530, error code: 1033", "403, <title>Just a moment</title>"})
    void aBrokenServiceIsToAnswer200(int status, String body) throws IOException {
        try (var service = new TestServer((path, sent) -> new TestServer.Answer(status, body))) {
            home.watchdog("setup", service.url()).exits(0).says("service  unhealthy");
            assertEquals("status == 200", healthy());
        }
    }

    private String healthy() throws IOException {
        return Files.readString(rules).replaceFirst("(?s).*healthy \\{[^\n]*(.*?)\n    }.*", "$1").strip()
            .replaceAll("\n +", "; ");
    }

    /** {@code programs}: what is on PATH; {@code enabled}: what the service managers know. */
    @ParameterizedTest @CsvSource(delimiter = '|', nullValues = "-", value = {
        "-            | - | // restart { run 'sudo -n systemctl restart NAME-OF-YOUR-SERVICE' }",
        "cloudflared  | - | start 'cloudflared tunnel --no-autoupdate run'",
        "cloudflared  | is-enabled cloudflared | run 'sudo -n systemctl restart cloudflared'",
        "cloudflared  | print system/com.cloudflare.cloudflared | run 'sudo -n launchctl kickstart -k "
            + "system/com.cloudflare.cloudflared'",
        "cloudflared  | print gui/UID/homebrew.mxcl.cloudflared | run 'launchctl kickstart -k "
            + "gui/UID/homebrew.mxcl.cloudflared'"})
    void theRemedyIsTheServiceManagersWhereThereIsOne(String programs, String enabled, String remedy)
            throws IOException {
        String uid = Files.getAttribute(temp, "unix:uid").toString();
        if (programs != null) home.script("bin/" + programs, "true");
        String known = enabled == null ? "none" : enabled.replace("UID", uid);
        for (String manager : new String[] {"systemctl", "launchctl"})
            home.script("bin/" + manager, "[ \"$*\" = '" + known + "' ] && echo enabled");
        home.watchdog("setup").exits(0);
        String text = Files.readString(rules);
        assertTrue(text.contains(remedy.replace("UID", uid)), text);
        assertEquals(remedy.contains("sudo -n") && programs != null, text.contains("visudo"), text);
        assertEquals(programs == null, home.watchdog("validate", "--rules", rules.toString()).out()
            .lines().noneMatch(line -> line.startsWith("    restart: ")));
    }

    @Test void theFilesArePrivateAndAreNeverOverwritten() throws IOException {
        home.watchdog("setup").exits(0);
        for (Path file : new Path[] {rules, secrets})
            assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(file)));
        assertEquals("", home.watchdog("setup").exits(2).errs(rules + " exists, and setup never").out());
    }

    /** The secrets are what a person cannot write again; the rules can be. */
    @Test void secretsThatExistAreKept() throws IOException {
        home.watchdog("setup").exits(0);
        Files.writeString(secrets, "TOKEN=mine");
        Files.delete(rules);
        home.watchdog("setup").exits(0).says("kept     " + secrets).says("wrote    " + rules);
        assertEquals("TOKEN=mine", Files.readString(secrets));
    }

    @Test void jsonIsOneObject() throws IOException {
        try (var service = new TestServer((path, sent) -> new TestServer.Answer(200, "ok"))) {
            var json = home.watchdog("setup", "--json", service.url()).exits(0).json();
            assertEquals(List.of(secrets.toString(), rules.toString()), json.get("wrote"));
            assertEquals(List.of(service.url() + " answers HTTP 200, 'ok'"), json.get("found"));
            var watch = (Map<?, ?>) ((List<?>) json.get("watches")).get(0);
            assertEquals("service healthy", watch.get("name") + " " + watch.get("verdict"));
        }
        Files.delete(rules);
        var json = home.watchdog("setup", "--json", "http://me:hidden@127.0.0.1:1/?key=hidden").json();
        assertEquals(List.of(secrets.toString()), json.get("kept"));
        assertEquals(List.of("watchdog: the request to http://127.0.0.1:1/?\u2026 failed: connection refused "
            + "by 127.0.0.1:1"), json.get("problems"));
        assertEquals(2, home.watchdog("setup", "--json").exits(2).json().get("exit"));
    }

    @ParameterizedTest @CsvSource({"localhost:81, http://localhost:81", "10.0.0.2, http://10.0.0.2",
        "nas:81/x, http://nas:81/x", "nas.local, http://nas.local", "x.internal, http://x.internal",
        "example.com, https://example.com", "http://example.com, http://example.com"})
    void aUrlWithoutASchemeIsHttpInTheLocalNetwork(String url, String address) {
        assertEquals(address, setup.address(url));
    }

    @Test void aMistakeInTheUrlIsOneSentenceAndWritesNothing() {
        assertEquals("watchdog: url 'ftp://x' is not a URL; write, for example, "
            + "'https://plex.example.com/identity'\n", home.watchdog("setup", "ftp://x").exits(2).err());
        assertFalse(Files.exists(rules) || Files.exists(secrets));
    }
}
