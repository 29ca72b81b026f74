import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.Deflater;
import java.util.zip.GZIPOutputStream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import mockwebserver3.SocketEffect;
import okhttp3.Headers;
import okhttp3.tls.HandshakeCertificates;
import okhttp3.tls.HeldCertificate;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** What a check finds on a network, and the verdict and sentence that watchdog makes of it. */
class CheckTest {
    private static final String OK = "HTTP/1.1 200 OK\r\n", GZIP_HEAD = "\u001f\u008b\b\0\0\0\0\0\0\3";

    private static final String EXPIRED = "the certificate of localhost, or one above it, has expired",
        UNTRUSTED =
        "the certificate of localhost is not trusted; if you trust it, add: trust 'ca.pem'";

    /** Sentences that people read, outside the table of faults below. */
    private static final Map<String, String> SENTENCES = Map.of(
        "samples", "expected status in 200..299, but status was 502 (3 of 4 checks failed)",
        "a condition without end", "the conditions took longer than 1 s",
        "a silent name server", "no response within 1 s (resolving the name)",
        "no network", "192.0.2.1:80 is unreachable",
        "a Mac without the permission",
            "192.168.7.7:80 is unreachable; see System Settings > Local Network",
        "slept", "this machine slept, or its clock was set",
        "an unknown authority", UNTRUSTED,
        "the check of a URL", "expected status == 401, but status was 530; got 'error code: 1033'");

    @TempDir Path folder;
    private final Faults faults = new Faults();
    private TestFolder home;

    @BeforeEach
    void open() { home = new TestFolder(folder); }

    @AfterEach
    void endTheFaults() { faults.close(); }

    // ---- the catalogue of faults --------------------------------------------------------------------------

    /** A fault, the words of its watch, the right verdict and reason; {@code …} stands for anything. */
    private record Row(String name, String words, String verdict, String reason) { }

    /** All in one rules file, checked side by side: one compilation, and no fault disturbs another. */
    @TestFactory
    Stream<DynamicTest> everyFaultHasItsVerdictAndItsWords() throws IOException {
        home.file("ca.pem", faults.authority.certificatePem()).script("lost.sh", "")
            .file("lost.sh", "#!/no/such/interpreter\n");
        List<Row> rows =
            Stream.of(connections(), answers(), json(), redirects(), certificates(), handshakes(), edges())
            .flatMap(List::stream).toList();
        assertEquals(rows.size(), rows.stream().map(Row::name).distinct().count(), "rows with the same name");
        home.rules(rows.stream()
            .map(row -> "watch('" + row.name() + "') {\n    attempts 1\n    timeout 20.seconds\n    "
            + row.words().strip().replace("\n", "\n    ") + "\n}\n").collect(Collectors.joining()));
        Run run = home.watchdog("check", "--json");
        assertEquals(1, run.exit(), run.toString());
        Map<String, Map<?, ?>> results = results(run);
        return rows.stream()
            .map(row -> dynamicTest(row.name(), () -> assertResult(row, results.get(row.name()))));
    }

    private static void assertResult(Row row, Map<?, ?> result) {
        String expected = row.verdict() + ": " + row.reason();
        String found = result.get("verdict") + ": " + result.get("reason");
        String pattern =
            Stream.of(expected.split("…", -1)).map(Pattern::quote).collect(Collectors.joining(".*"));
        if (!found.matches(pattern)) assertEquals(expected, found);
    }

    /** What hangs does so for 3 seconds, when all the other checks are done. */
    private List<Row> connections() {
        int refused = faults.refusedPort();
        return List.of(
            new Row("nobody listens", url("http://127.0.0.1:" + refused + "/"),
                "unhealthy", "connection refused by 127.0.0.1:" + refused),
            new Row("nobody listens behind a redirect",
                url(faults.redirecting("http://127.0.0.1:" + refused + "/")),
                "unhealthy", "connection refused by 127.0.0.1:" + refused),
            new Row("no such name behind a redirect",
                url(faults.redirecting("http://x.invalid/")) + "followRedirects any",
                "unhealthy", "x.invalid does not resolve"),
            new Row("no such name", url("http://x.invalid/"),
                "unhealthy", "x.invalid does not resolve"),
            new Row("a black hole", url(faults.blackHole()) + "timeout 3.seconds",
                "unhealthy", "no response within 3 s (connecting)"),
            new Row("accepts and is silent", url(faults.silent()) + "timeout 3.seconds",
                "unhealthy", "no response within 3 s (waiting for the response)"),
            new Row("headers that drip", url(faults.drip(OK + "X: ")) + "timeout 3.seconds",
                "unhealthy", "no response within 3 s (waiting for the response)"),
            new Row("a body that drips", url(faults.drip(OK + "\r\n")) + "timeout 3.seconds",
                "unhealthy", "no response within 3 s (reading the response)"),
            new Row("reset before the answer", url(faults.reset("")),
                "unhealthy", "the connection was reset (waiting for the response)"),
            new Row("reset in the body", url(faults.reset(OK + "Content-Length: 50\r\n\r\nok")),
                "unhealthy", "the connection was reset (reading the response)"),
            new Row("closed before the answer", url(faults.raw("")),
                "unhealthy", "the connection was closed (waiting for the response)"),
            new Row("closed in the body",
                url(faults.raw(OK + "Content-Length: 50\r\n\r\nok"))
                + "healthy { body.contains('ok') }",
                "unhealthy", "the connection was closed (reading the response)"),
            new Row("closed in the chunks",
                url(faults.raw(OK + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")),
                "unhealthy", "the connection was closed (reading the response)"),
            new Row("a stream of HTTP 2 that is reset",
                url(faults.tls(faults.serving("localhost"), new MockResponse.Builder()
                    .onRequestStart(new SocketEffect.CloseStream()).build())) + "trust 'ca.pem'",
                "unhealthy", "the connection was reset (waiting for the response)"),
            new Row("an HTTP 2 connection that goes away after its answer",
                url(faults.tls(faults.serving("localhost"),
                    new MockResponse.Builder().onResponseEnd(SocketEffect.ShutdownConnection.INSTANCE)
                        .build())) + "trust 'ca.pem'",
                "healthy", "200 in …"),
            new Row("a port that nobody listens on", "tcp '127.0.0.1:" + refused + "'",
                "unhealthy", "connection refused by 127.0.0.1:" + refused),
            new Row("a port in a black hole",
                "tcp '" + faults.blackHole().replaceAll(".*//|/$", "") + "'\ntimeout 3.seconds",
                "unhealthy", "no response within 3 s (connecting)"),
            new Row("a port of no such name", "tcp 'x.invalid:80'",
                "unhealthy", "x.invalid does not resolve"),
            new Row("a port that accepts", "tcp '" + faults.silent().replaceAll(".*//|/$", "") + "'",
                "healthy", "connected in …"),
            new Row("a command that fails", "command 'sh -c \"echo broken; exit 3\"'",
                "unhealthy", "expected exit code 0, but it was 3; got 'broken'"),
            new Row("a command whose last words are blank",
                "command 'sh -c \"echo broken; printf %400s; exit 3\"'",
                "unhealthy", "expected exit code 0, but it was 3; got 'broken'"),
            new Row("a command that is not there", "command 'no-such-program'",
                "inconclusive",
                "cannot be checked: no program 'no-such-program' in …; install it, or name its folder: …"),
            new Row("a command that may not be executed", "command './ca.pem'",
                "inconclusive", "cannot be checked: …/ca.pem is not executable; fix it with: chmod +x …"),
            new Row("a command whose interpreter is missing", "command './lost.sh'",
                "inconclusive", "cannot be checked: cannot run: exit code 127 (does its first line name a "
                    + "program that exists?): …"),
            new Row("a command that its shell does not find", "command 'sh -c no-such-program'",
                "inconclusive", "cannot be checked: cannot run: exit code 127 …"),
            new Row("a command that hangs", "command 'sleep 30'\ntimeout 3.seconds",
                "unhealthy", "'sleep 30' did not end within 3 s and was killed"),
            new Row("a command that prints the wrong thing",
                "command 'echo degraded'\nhealthy { body.contains('ok') }",
                "unhealthy", "expected body.contains('ok'); got exit code 0, 'degraded'"),
            new Row("a command that prints too much JSON",
                "command 'sh -c \"printf {%20000s} 1\"'\nhealthy { json('a') == 1 }", "inconclusive",
                "a condition could not be evaluated…the body is too long to read as JSON"),
            new Row("a command that ends well", "command 'true'",
                "healthy", "exit code 0 in …"));
    }

    private List<Row> answers() throws IOException {
        return List.of(
            new Row("a body without end",
                url(faults.endless(OK + "\r\n", out -> out))
                + "healthy { body.length() == 1024 * 1024 }",
                "healthy", "200 in …"),
            new Row("a gzip bomb",
                url(faults.endless(OK + "Content-Encoding: gzip\r\n\r\n", CheckTest::gzip))
                    + "healthy { body.length() == 1024 * 1024 }",
                "healthy", "200 in …"),
            new Row("gzip that is none",
                url(faults.raw(OK + "Content-Encoding: gzip\r\nContent-Length: 22\r\n\r\nthis is no gzip"
                    + " at all")),
                "unhealthy", "the response is corrupt gzip"),
            new Row("gzip with damage inside",
                url(faults.raw(OK + "Content-Encoding: gzip\r\n\r\n" + GZIP_HEAD + "\u00ff".repeat(40))),
                "unhealthy", "the response is corrupt gzip"),
            new Row("gzip that ends early",
                url(faults.raw(OK + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\u001f\u008b\b\0")),
                "unhealthy", "the connection was closed (reading the response)"),
            new Row("a length below the true one",
                url(faults.raw(OK + "Content-Length: 2\r\n\r\nokay"))
                + "healthy { body == 'ok' }",
                "healthy", "200 in …"),
            new Row("a length below nothing",
                url(faults.raw(OK + "Content-Length: -5\r\n\r\nok")),
                "unhealthy", "unreadable response (reading the response)"),
            new Row("two lengths",
                url(faults.raw(OK + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok")),
                "unhealthy", "the connection was closed (reading the response)"),
            new Row("a chunk of no length",
                url(faults.raw(OK + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n")),
                "unhealthy", "unreadable response (reading the response)"),
            new Row("a chunk below nothing",
                url(faults.raw(OK + "Transfer-Encoding: chunked\r\n\r\n-5\r\nok\r\n")),
                "unhealthy", "unreadable response (reading the response)"),
            new Row("headers without end", url(faults.endless(OK + "X: ", out -> out)),
                "unhealthy", "headers or status 1xx without end"),
            new Row("Continue without end", url(faults.continuing()),
                "unhealthy", "headers or status 1xx without end"),
            new Row("a header without a name", url(faults.raw(OK + ": x\r\n\r\nok")),
                "…", "…"),
            new Row("HTTP 1.2, which nobody speaks", url(faults.raw("HTTP/1.2 200 OK\r\n\r\nok")),
                "unhealthy", "the response is not HTTP, but 'HTTP/1.2 200 OK'"),
            new Row("a status that is no number", url(faults.raw("HTTP/1.1 abc\r\n\r\nok")),
                "unhealthy", "the response is not HTTP, but 'HTTP/1.1 abc'"),
            new Row("the greeting of an SSH server", url(faults.raw("SSH-2.0-OpenSSH_9.2p1\r\n")),
                "unhealthy", "the response is not HTTP, but 'SSH-2.0-OpenSSH_9.2p1'"),
            new Row("a page without any header", url(faults.raw("<html>hello</html>\n")),
                "unhealthy", "the response is not HTTP, but '<html>hello</html>'"),
            new Row("user and password in the URL",
                url(faults.protectedBy("Basic bWU6cEB3").replace("http://", "http://me:p%40w@")),
                "healthy", "200 in …"),
            new Row("user and password in the URL of a redirect to the same host",
                url(faults.redirecting(faults.protectedBy("Basic bWU6cEB3"))
                    .replace("http://", "http://me:p%40w@")),
                "healthy", "200 in …"),
            new Row("status 999", url(faults.answering(999, "")),
                "unhealthy", "expected status in 200..299, but status was 999"),
            new Row("status 999, as wanted", url(faults.answering(999, "")) + "healthy { status == 999 }",
                "healthy", "999 in …"),
            new Row("204 with a length",
                url(faults.raw("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok")),
                "healthy", "204 in …"),
            new Row("204 and nothing more", url(faults.answering(204, "")),
                "healthy", "204 in …"),
            new Row("503 with Retry-After, then 200",
                url(faults.answering(new MockResponse.Builder().code(503).addHeader("Retry-After", 0).build(),
                Faults.status(200))),
                "healthy", "200 in …"),
            new Row("408, then 200", url(faults.answering(Faults.status(408), Faults.status(200))),
                "healthy", "200 in …"),
            new Row("503 for ever",
                url(faults.answering(new MockResponse.Builder().code(503).addHeader("Retry-After", 0)
                .build())),
                "unhealthy", "expected status in 200..299, but status was 503"),
            new Row("408 for ever", url(faults.answering(408, "")),
                "unhealthy", "expected status in 200..299, but status was 408"),
            new Row("bytes that are no UTF-8",
                url(faults.raw(OK + "\r\n\u00ff\u00e9\u00fe\0ok"))
                + "healthy { body.endsWith('ok') }",
                "healthy", "200 in …"),
            new Row("an unknown charset",
                url(faults.raw(OK + "Content-Type: text/html; charset=klingon\r\n\r\nok"))
                + "healthy { body == 'ok' }",
                "healthy", "200 in …"),
            new Row("Latin 1, as it says",
                url(faults.raw(OK + "Content-Type: text/plain; charset=iso-8859-1\r\n\r\n\u00e9"))
                + "healthy { body == '\u00e9' }",
                "healthy", "200 in …"),
            new Row("what cannot be asked",
                url(faults.answering(200, "")) + "healthy { certificate.expiresIn > 1.day }",
                "inconclusive",
                    "a condition could not be evaluated…no certificate: the URL is not https"));
    }

    private List<Row> json() {
        String page = "<!DOCTYPE html>\n<html><head><title>Sign in</title><style>p { }</style></head>"
            + "<body><p>Please log in</p>", wanted = "healthy { json('status') == 'ok' }";
        return List.of(
            new Row("JSON with a byte order mark",
                url(faults.raw(OK + "\r\n\u00ef\u00bb\u00bf{\"status\": \"ok\"}")) + wanted,
                "healthy", "200 in …"),
            new Row("JSON in UTF-16",
                url(faults.raw(OK + "\r\n\u00ff\u00fe" + "{\"status\":\"ok\"}".replaceAll(".", "$0\0")))
                + wanted,
                "healthy", "200 in …"),
            new Row("JSON with another value", url(faults.answering(200, "{\"status\": \"bad\"}")) + wanted,
                "unhealthy", "expected json('status') == 'ok', but json('status') was 'bad'"),
            new Row("JSON without the value", url(faults.answering(200, "{}")) + wanted,
                "unhealthy", "expected json('status') == 'ok', but json('status') was null; got HTTP 200, "
                    + "'{}'"),
            new Row("a page where JSON is wanted", url(faults.answering(200, page)) + wanted,
                "unhealthy", "expected json('status') == 'ok', but json('status') was null; got HTTP 200, "
                    + "'Sign in'"),
            new Row("nothing where JSON is wanted", url(faults.answering(200, "")) + wanted,
                "unhealthy", "expected json('status') == 'ok', but json('status') was null; got HTTP 200"),
            new Row("a text with a word of the rules",
                url(faults.answering(200, "x")) + "healthy { status == 200 && body.contains('time: 1') }",
                "unhealthy", "expected status == 200 && body.contains('time: 1'), but status was 200; got 'x'"),
            new Row("a page where a text is wanted",
                url(faults.answering(200, page)) + "healthy { body.contains('ok') }",
                "unhealthy", "expected body.contains('ok'); got HTTP 200, 'Sign in'"),
            new Row("JSON too long to read",
                url(faults.answering(200, "{\"status\": \"ok\", \"a\": \"" + "a".repeat(1 << 20) + "\"}"))
                + wanted,
                "inconclusive", "a condition could not be evaluated…the body is too long "
                    + "to read as JSON"),
            new Row("JSON too long to read, by its bytes",
                url(faults.answering(200, "{\"a\": \"" + "ü".repeat(1 << 19) + "\"}"))
                + "healthy { json('a') == null }", "inconclusive", "a condition could not be evaluated…"),
            new Row("JSON too deep to read",
                url(faults.answering(200, "[".repeat(200_000))) + "healthy { json('a') == 1 }",
                "…", "…"));
    }

    private List<Row> redirects() {
        String elsewhere = faults.answering(200, "please log in").replace("127.0.0.1", "localhost");
        String next = faults.answering(200, "here");
        String plain = faults.answering(200, "plain").replace("127.0.0.1", "localhost");
        return List.of(
            new Row("a redirect to itself", url(faults.redirecting("/again")),
                "unhealthy", "more than 10 redirects"),
            new Row("a login page elsewhere", url(faults.redirecting(elsewhere)),
                "unhealthy", "expected status in 200..299, but status was 302; got a redirect to " + elsewhere
                    + "; to follow it, write: followRedirects any"),
            new Row("a login page elsewhere, with a query",
                url(faults.redirecting(elsewhere + "?token=1")) + "healthy { status == 200 }",
                "unhealthy", "expected status == 200, but status was 302; got a redirect to " + elsewhere
                    + "?…; to follow it, write: followRedirects any"),
            new Row("a login page elsewhere, expected",
                url(faults.redirecting(elsewhere)) + "healthy { status == 302 }",
                "healthy", "302 in …"),
            new Row("a login page elsewhere, wanted",
                url(faults.redirecting(elsewhere))
                + "followRedirects any\nhealthy { url.startsWith('http://localhost') }",
                "healthy", "200 in …"),
            new Row("a redirect on the same host",
                url(faults.redirecting(next)) + "healthy { url == '" + next + "' }",
                "healthy", "200 in …"),
            new Row("a redirect after a POST, as of a login form",
                url(faults.loginForm()) + "send 'name=me'", "healthy", "200 in …"),
            new Row("a redirect on the same host, unwanted",
                url(faults.redirecting(next)) + "followRedirects none",
                "unhealthy", "expected status in 200..299, but status was 302; got a redirect to " + next
                    + "; to follow it, write: followRedirects any"),
            new Row("from https to http",
                url(faults.tls(faults.serving("localhost"), redirect(plain)))
                + "trust 'ca.pem'\nfollowRedirects any",
                "unhealthy", "expected status in 200..299, but status was 302; got a redirect to " + plain),
            new Row("a redirect to nowhere", url(faults.answering(302, "")),
                "unhealthy", "expected status in 200..299, but status was 302"),
            new Row("a redirect to a file",
                url(faults.redirecting("file:///etc/passwd")) + "followRedirects any",
                "unhealthy", "expected status in 200..299, but status was 302; got a redirect to "
                    + "file:///etc/passwd; to follow it, write: followRedirects any"));
    }

    private List<Row> certificates() {
        HeldCertificate selfSigned =
            new HeldCertificate.Builder().addSubjectAlternativeName("localhost").build();
        HeldCertificate expired = faults.issued("localhost", Duration.ofDays(-9), Duration.ofDays(-1));
        HeldCertificate early = faults.issued("localhost", Duration.ofDays(1), Duration.ofDays(9));
        Instant now = Instant.now();
        HeldCertificate expiredAnchor = new HeldCertificate.Builder().addSubjectAlternativeName("localhost")
            .validityInterval(now.minus(Duration.ofDays(9)).toEpochMilli(),
                now.minus(Duration.ofDays(1)).toEpochMilli()).build();
        home.file("expired.pem", expiredAnchor.certificatePem());
        HeldCertificate old = new HeldCertificate.Builder().certificateAuthority(1).signedBy(faults.authority)
            .commonName("an old authority").validityInterval(1, 1_000_000_000_000L).build();
        HeldCertificate below = new HeldCertificate.Builder().signedBy(old)
            .addSubjectAlternativeName("localhost").build();
        String short_ = faults.tls(faults.issued("localhost", Duration.ofDays(-1), Duration.ofDays(10)));
        return List.of(
            new Row("a certificate that has expired", url(faults.tls(expired)) + "trust 'ca.pem'",
                "unhealthy", EXPIRED),
            new Row("a trusted certificate that has expired",
                url(faults.tls(expiredAnchor)) + "trust 'expired.pem'",
                "unhealthy", EXPIRED),
            new Row("a certificate whose authority has expired",
                url(faults.tls(below, old.certificate())) + "trust 'ca.pem'",
                "unhealthy", EXPIRED),
            new Row("a certificate that is not valid yet", url(faults.tls(early)) + "trust 'ca.pem'",
                "unhealthy",
                    "the certificate of localhost is not valid yet; check the clock of this machine"),
            new Row("a certificate for another host",
                url(faults.tls(faults.serving("other.example"))) + "trust 'ca.pem'",
                "unhealthy", "the certificate is not for localhost"),
            new Row("a certificate of nobody", url(faults.tls(selfSigned)),
                "unhealthy", UNTRUSTED),
            new Row("a certificate of an authority of our own", url(faults.tls(faults.serving("localhost"))),
                "unhealthy", UNTRUSTED),
            new Row("a certificate of an authority of our own, trusted",
                url(faults.tls(faults.serving("localhost"))) + "trust 'ca.pem'",
                "healthy", "200 in …"),
            new Row("HTTP 2 over TLS",
                url(faults.tls(faults.serving("localhost"))) + "trust 'ca.pem'\nhealthy { protocol == 'h2' }",
                "healthy", "200 in …"),
            new Row("a certificate that expires soon",
                url(short_) + "trust 'ca.pem'\nhealthy { certificate.expiresIn > 14.days }",
                "unhealthy",
                    "expected certificate.expiresIn > 14.days, but certificate.expiresIn was 10 days"),
            new Row("a certificate that expires soon enough",
                url(short_) + "trust 'ca.pem'\nhealthy { certificate.expiresIn > 9.days }",
                "healthy", "200 in …"));
    }

    /** TLS that fails for another reason than a certificate, and TLS where there should be none. */
    private List<Row> handshakes() {
        String plain = faults.raw("HTTP/1.1 400 Bad Request\r\n\r\n"),
            nginx = "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
            alert = faults.raw("\u0015\u0003\u0003\0\u0002\u0002\u0028");
        return List.of(
            new Row("a silent TLS server",
                url(faults.silent().replace("http:", "https:")) + "timeout 3.seconds",
                "unhealthy", "no response within 3 s (in the TLS handshake)"),
            new Row("closed in the TLS handshake", url(faults.raw("").replace("http:", "https:")),
                "unhealthy", "the connection was closed (in the TLS handshake)"),
            new Row("a TLS server that refuses the handshake", url(alert.replace("http:", "https:")),
                "unhealthy", "the TLS handshake with 127.0.0.1 failed: handshake_failure"),
            new Row("plain HTTP where TLS is expected", url(plain.replace("http:", "https:")),
                "unhealthy", plain.replaceAll(".*//|/$", "") + " does not speak TLS; write http://"),
            new Row("TLS where HTTP is expected", url(alert),
                "unhealthy", alert.replaceAll(".*//|/$", "") + " speaks TLS; write https://"),
            new Row("TLS where HTTP is expected, as nginx says it", url(faults.answering(400, nginx)),
                "unhealthy", "expected status in 200..299, but status was 400; got '400 The plain "
                    + "HTTP request was sent to HTTPS port'"));
    }

    /** What Cloudflare says for a tunnel or an origin that is down. */
    private List<Row> edges() {
        String healthy = "healthy { status == 401 && body.contains('401 Unauthorized') }";
        return List.of(
            new Row("a tunnel that is not connected",
                url(faults.answering(530, "error code: 1033")) + healthy,
                "unhealthy",
                    "expected status == 401 && body.contains('401 Unauthorized'), but status was 530; "
                        + "got 'error code: 1033'"),
            new Row("a bad gateway", url(faults.answering(502, "Bad gateway")) + healthy,
                "unhealthy",
                    "expected status == 401 && body.contains('401 Unauthorized'), but status was 502; "
                        + "got 'Bad gateway'"),
            new Row("a page with a title", url(faults.answering(530,
                "<!DOCTYPE html>\n<html lang='en'><head><title>Origin DNS\nerror</title><body>Ray")),
                "unhealthy", "expected status in 200..299, but status was 530; got 'Origin DNS error'"),
            new Row("a megabyte of titles without an end",
                url(faults.answering(530, "<" + "title>".repeat(170_000))),
                "unhealthy", "expected status in 200..299, but status was 530; got '<title>title>…"),
            new Row("an origin that is too slow", url(faults.answering(524, "A timeout occurred")) + "",
                "unhealthy", "expected status in 200..299, but status was 524; got 'A timeout occurred'"),
            new Row("the wrong page with the right status", url(faults.answering(401, "Access")) + healthy,
                "unhealthy",
                    "expected status == 401 && body.contains('401 Unauthorized'), but status was 401; "
                        + "got 'Access'"),
            new Row("Plex itself", url(faults.answering(401, "<h1>401 Unauthorized</h1>")) + healthy,
                "healthy", "401 in …"));
    }

    private static String url(String url) { return "url '" + url + "'\n"; }

    private static MockResponse redirect(String to) { return new MockResponse.Builder().code(302)
        .addHeader("Location", to).build(); }

    private static OutputStream gzip(OutputStream out) {
        try {
            return new GZIPOutputStream(out, 1 << 16, true);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Map<String, Map<?, ?>> results(Run run) {
        Map<String, Map<?, ?>> results = new LinkedHashMap<>();
        for (Object watch : (List<?>) ((Map<?, ?>) new JsonSlurper().parseText(run.out())).get("watches"))
            results.put((String) ((Map<?, ?>) watch).get("name"), (Map<?, ?>) watch);
        return results;
    }

    // ---- what is printed ----------------------------------------------------------------------------------

    @Test
    void whatAServerSendsIsPrintedWithoutControlCharacters() {
        String hostile =
            faults.raw("HTTP/1.1 500 \u001b]0;owned\u0007\r\nX-Evil: \u0007bell\r\n\r\n"
                + "\u001b[2Jgone\0\r\u0008\u0085\u00e2\u0080\u00aetxt.exe");
        Run run = home.rules("""
            watch('hostile') {
                url '%s'
                attempts 1
                healthy { body == 'ok' && header('X-Evil') == null }
            }
            watch('banner') {
                url '%s'
                attempts 1
            }
            """.formatted(hostile, faults.raw("\u001b[31mSSH\u0007\r\n"))).watchdog("check", "--verbose");
        assertEquals(1, run.exit(), run.toString());
        assertEquals(List.of(),
            (run.out() + run.err()).codePoints().filter(c -> c != '\n' && (Character.isISOControl(c)
            || Character.getType(c) == Character.FORMAT)).mapToObj(Integer::toHexString).toList(),
                run.toString());
        assertTrue(run.out().contains("body == 'ok'"), run.out());
    }

    @Test
    void checkOfAUrlPrintsTheDiagramAndTheTimeOfEachPhase() {
        Run run =
            home.watchdog("check",
            faults.answering(530, "error code: 1033").replace("127.0.0.1", "localhost"), "status == 401");
        assertEquals(1, run.exit(), run.toString());
        String out = run.out().replaceAll(":\\d+/", ":PORT/").replaceAll("\\d+ ms", "N ms");
        assertEquals("""
            http://localhost:PORT/  unhealthy    %s
                status == 401
                |      |
                530    false
                dns N ms, connect N ms, first byte N ms, body N ms
            """.formatted(SENTENCES.get("the check of a URL")), out);
    }

    @Test
    void checkOfAnHttpsUrlTimesTheHandshakeUpToItsFailure() {
        Run run = home.watchdog("check", faults.tls(faults.serving("localhost")));
        assertEquals(1, run.exit(), run.toString());
        assertTrue(run.out().contains(SENTENCES.get("an unknown authority")), run.out());
        assertTrue(run.out().lines().toList().get(1).matches("    dns \\d+ ms, connect \\d+ ms.*"),
            run.out());
    }

    @Test
    void aLongUrlIsCheckedAndItsQueryIsNotPrinted() {
        String url = faults.answering(200, "") + "a".repeat(80) + "?token=1234567";
        Run run = home.watchdog("check", url);
        assertEquals(0, run.exit(), run.toString());
        assertTrue(run.out().startsWith(url.substring(0, 59) + "…  healthy "), run.out());
        assertFalse(run.out().contains("1234567"), run.out());
    }

    @Test
    void jsonSaysTheCauseAndWhenTheCertificateExpires() {
        HeldCertificate certificate = faults.serving("localhost");
        home.file("ca.pem", faults.authority.certificatePem());
        Map<String, Map<?, ?>> results = results(home.rules("""
            watch('tls') { url '%s'; trust 'ca.pem' }
            watch('refused') { url '%s'; attempts 1 }
            """.formatted(faults.tls(certificate), faults.refused())).watchdog("check", "--json"));
        assertEquals("none", results.get("tls").get("error"));
        assertEquals(certificate.certificate().getNotAfter().toInstant().toString(),
            results.get("tls").get("certificateExpires"));
        assertEquals("refused", results.get("refused").get("error"));
        assertFalse(results.get("refused").containsKey("certificateExpires"));
    }

    // ---- certificates and restarts ------------------------------------------------------------------------

    @Test
    void aRestartRenewsNoCertificateSoNoneRunsUnlessTheRulesSaySo() {
        Run run = home.rules("""
            watch('told') {
                url '%1$s'
                attempts 1
                restart { run 'touch told' }
            }
            watch('restarted') {
                url '%1$s'
                attempts 1
                within 100.milliseconds
                restart(when: { error == tls }) { run 'touch restarted' }
            }
            """.formatted(faults.tls(faults.serving("localhost")))).watchdog("--json");
        assertEquals(1, run.exit(), run.toString());
        assertEquals("held", results(run).get("told").get("did"));
        assertEquals("restarted", results(run).get("restarted").get("did"));
        assertFalse(Files.exists(folder.resolve("told")));
        assertTrue(Files.exists(folder.resolve("restarted")));
    }

    @Test
    void aBodyThatMayContainTheWordCertificateIsNoConditionOfACertificate() {
        Run run = home.rules("""
            watch('a') {
                url '%s'
                attempts 1
                healthy { !body.contains('certificate.') }
                restart { run 'touch restarted' }
                within 100.milliseconds
            }
            """.formatted(faults.answering(200, "certificate."))).watchdog();
        assertEquals(1, run.exit(), run.toString());
        assertTrue(Files.exists(folder.resolve("restarted")), run.toString());
    }

    @Test
    void aRemedyForACauseSeesWhyThereIsNoAnswer() {
        Map<String, String> causes = Map.of(
            "refused", url(faults.refused()),
            "unknownHost", url("http://x.invalid/"),
            "timeout", url(faults.silent()) + "timeout 1.second",
            "reset", url(faults.reset("")),
            "closed", url(faults.raw("")),
            "tls", url(faults.tls(faults.serving("localhost"))),
            "none", url(faults.answering(500, "")));
        Run run = home.rules(causes.entrySet().stream().map(cause -> """
            watch('%1$s') {
                %2$s
                attempts 1
                restart { run 'touch wrong-%1$s' }
                restart(when: { error == %1$s }) { run 'touch right-%1$s' }
            }
            """.formatted(cause.getKey(), cause.getValue().replace("\n", "\n    ")))
            .collect(Collectors.joining())).watchdog("--dry-run");
        assertEquals(1, run.exit(), run.toString());
        causes.keySet()
            .forEach(cause -> assertTrue(run.out().contains("touch right-" + cause), cause + " in " + run));
        assertFalse(run.out().contains("touch wrong-"), run.out());
    }

    // ---- what goes over the wire --------------------------------------------------------------------------

    @Test
    void theRequestIsShapedByTheWordsOfTheWatch() throws Exception {
        MockWebServer server = faults.serve(Faults.status(200));
        home.rules("""
            def site = '%s'
            watch('plain') { url site + 'plain' }
            watch('method') { url site + 'method'; method 'HEAD' }
            watch('header') { url site + 'header'; header 'X-One', 'one'; header 'User-Agent', 'mine' }
            watch('basic') { url site + 'basic'; basicAuth 'me', 'pass' }
            watch('bearer') { url site + 'bearer'; bearer 'abc' }
            watch('send') { url site + 'send'; send '{"a": 1}' }
            watch('form') { url site + 'form'; send 'a=1', type: 'application/x-www-form-urlencoded' }
            watch('put') { url site + 'put'; method 'PUT'; send 'x', type: 'text/plain' }
            """.formatted(server.url("/")));
        assertEquals(0, home.watchdog("check").exit());
        Map<String, RecordedRequest> asked = requests(server);
        assertEquals("GET /plain HTTP/1.1", asked.get("/plain").getRequestLine());
        assertEquals("watchdog/1.0.0", asked.get("/plain").getHeaders().get("User-Agent"));
        assertEquals("HEAD", asked.get("/method").getMethod());
        assertEquals("one", asked.get("/header").getHeaders().get("X-One"));
        assertEquals(List.of("mine"), asked.get("/header").getHeaders().values("User-Agent"));
        assertEquals("Basic bWU6cGFzcw==", asked.get("/basic").getHeaders().get("Authorization"));
        assertEquals("Bearer abc", asked.get("/bearer").getHeaders().get("Authorization"));
        assertEquals("POST {\"a\": 1} application/json", body(asked.get("/send")));
        assertEquals("POST a=1 application/x-www-form-urlencoded", body(asked.get("/form")));
        assertEquals("PUT x text/plain", body(asked.get("/put")));
    }

    /** Without the charset that OkHttp adds. */
    private static String body(RecordedRequest request) {
        return request.getMethod() + " " + request.getBody().utf8() + " "
            + request.getHeaders().get("Content-Type").replaceAll(";.*", "");
    }

    @Test
    void credentialsDoNotFollowARedirectToAnotherHost() throws Exception {
        MockWebServer other = faults.serve(Faults.status(200));
        MockWebServer first = faults.serve(redirect("http://localhost:" + other.getPort() + "/login"));
        assertEquals(0, home.rules("""
            watch('site') {
                url 'http://127.0.0.1:%d/'
                bearer 'abc'
                header 'Cookie', 'session=1'
                followRedirects any
            }
            """.formatted(first.getPort())).watchdog("check").exit());
        assertEquals("Bearer abc", requests(first).get("/").getHeaders().get("Authorization"));
        Headers met = requests(other).get("/login").getHeaders();
        assertEquals(List.of(),
            Stream.of("Authorization", "Cookie").filter(name -> met.get(name) != null).toList());
    }

    @Test
    void proxiesOfTheMachineAreNotAsked() throws Exception {
        MockWebServer site = faults.serve(Faults.status(200));
        MockWebServer proxy = faults.serve(Faults.status(500));
        home.rules("watch('site') { url 'http://127.0.0.1:%d/'; attempts 1 }".formatted(site.getPort()));
        Map<String, String> env = new LinkedHashMap<>();
        String there = "127.0.0.1:" + proxy.getPort();
        env.put("http_proxy", "http://" + there);
        env.put("all_proxy", "http://" + there);
        env.put("JAVA_TOOL_OPTIONS",
            "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=" + proxy.getPort() + " -Dhttp.nonProxyHosts="
            + " -DsocksProxyHost=127.0.0.1 -DsocksProxyPort=" + proxy.getPort() + " -DsocksNonProxyHosts=");
        Run run = ended(process(env, "check"));
        assertEquals(0, run.exit(), run.toString());
        assertEquals(1, site.getRequestCount());
        assertEquals(0, proxy.getRequestCount());
    }

    /** The service behind the name, without the tunnel. A redirect to the name goes there too. */
    @Test
    void connectToSendsTheSameRequestToAnotherAddress() throws Exception {
        MockWebServer service = faults.serve(redirect("http://plex.invalid/web"), Faults.status(200));
        MockWebServer secure = faults.tlsServer(
            new HandshakeCertificates.Builder().heldCertificate(faults.serving("plex.invalid")));
        int refused = faults.refusedPort();
        home.file("ca.pem", faults.authority.certificatePem());
        Run run = home.rules("""
            watch('plain') {
                url 'http://plex.invalid/identity'
                connectTo '127.0.0.1:%d'
                healthy { url == 'http://plex.invalid/web' }
            }
            watch('tls') {
                url 'https://plex.invalid/identity'
                connectTo '127.0.0.1:%d'
                trust 'ca.pem'
                healthy { protocol == 'h2' }
            }
            watch('refused') { url 'https://plex.invalid/'; connectTo '127.0.0.1:%d'; attempts 1 }
            """.formatted(service.getPort(), secure.getPort(), refused)).watchdog("check", "--json");
        Map<String, Map<?, ?>> results = results(run);
        assertEquals("healthy", results.get("plain").get("verdict"), run.toString());
        assertEquals("healthy", results.get("tls").get("verdict"), run.toString());
        assertEquals("connection refused by 127.0.0.1:" + refused, results.get("refused").get("reason"));
        Map<String, RecordedRequest> asked = requests(service);
        assertEquals(Set.of("/identity", "/web"), asked.keySet());
        assertEquals("plex.invalid", asked.get("/identity").getHeaders().get("Host"));
        RecordedRequest overTls = requests(secure).get("/identity");
        assertEquals("plex.invalid", overTls.getHeaders().get(":authority"));
        assertEquals(List.of("plex.invalid"), overTls.getHandshakeServerNames());
    }

    private static Map<String, RecordedRequest> requests(MockWebServer server) throws InterruptedException {
        Map<String, RecordedRequest> asked = new LinkedHashMap<>();
        for (int left = server.getRequestCount(); left > 0; left--) {
            RecordedRequest request = server.takeRequest();
            asked.put(request.getTarget(), request);
        }
        return asked;
    }

    // ---- attempts and samples -----------------------------------------------------------------------------

    @Test
    void aHealthyFirstCheckIsNotRepeated() {
        MockWebServer server = faults.serve(Faults.status(200));
        assertEquals(0,
            home.rules("watch('site') { url '%s'; attempts 5 }".formatted(server.url("/"))).watchdog("check")
            .exit());
        assertEquals(1, server.getRequestCount());
    }

    @Test
    void aFailedCheckIsRepeatedOnAFreshConnectionBeforeItCounts() throws Exception {
        MockWebServer once = faults.serve(Faults.status(502), Faults.status(200));
        MockWebServer always = faults.serve(Faults.status(502));
        Run run = home.rules("""
            watch('once') { url '%s'; attempts 3, every: 10.milliseconds }
            watch('always') { url '%s'; attempts 3, every: 10.milliseconds }
            """.formatted(once.url("/"), always.url("/"))).watchdog("check", "--json");
        assertEquals("healthy", results(run).get("once").get("verdict"));
        assertEquals(List.of(0, 1), connections(once));
        assertEquals("unhealthy", results(run).get("always").get("verdict"));
        assertEquals(List.of(0, 1, 2), connections(always));
    }

    @Test
    void samplesAreTakenOnFreshConnectionsUntilTheOutcomeIsCertain() throws Exception {
        MockResponse good = Faults.status(200), bad = Faults.status(502);
        MockWebServer enough = faults.serve(bad, good, bad, good, good);
        MockWebServer few = faults.serve(bad, good, bad, bad, good);
        Run run = home.rules("""
            watch('enough') { url '%s'; attempts 1; samples 5, good: 3 }
            watch('few') { url '%s'; attempts 1; samples 5, good: 3 }
            """.formatted(enough.url("/"), few.url("/"))).watchdog("check", "--json");
        assertEquals("healthy", results(run).get("enough").get("verdict"));
        assertEquals(List.of(0, 1, 2, 3, 4), connections(enough));
        assertEquals(SENTENCES.get("samples"), results(run).get("few").get("reason"));
        assertEquals(List.of(0, 1, 2, 3), connections(few), "three bad ones of five are enough to know");
    }

    private static List<Integer> connections(MockWebServer server) throws InterruptedException {
        List<Integer> connections = new ArrayList<>();
        for (int left = server.getRequestCount(); left > 0; left--) {
            RecordedRequest request = server.takeRequest();
            assertEquals(0, request.getExchangeIndex(), "the first request of its connection");
            connections.add(request.getConnectionIndex());
        }
        return connections;
    }

    /** In a process of its own, with a file of host names. Nobody listens on 127.0.0.2. */
    @Test
    void aPortIsHealthyWhenAnyAddressOfItsHostAccepts() throws Exception {
        String port = faults.silent().replaceAll("\\D*[\\d.]+:|/$", "");
        home.file("hosts", "127.0.0.2 two\n127.0.0.1 two\n127.0.0.2 one\n").rules("""
            watch('two') { tcp 'two:%1$s'; attempts 1 }
            watch('one') { tcp 'one:%1$s'; attempts 1 }
            """.formatted(port));
        List<String> words = new ArrayList<>(Run.process("check", "--json"));
        words.add(1, "-Djdk.net.hosts.file=" + folder.resolve("hosts"));
        Map<String, Map<?, ?>> results = results(ended(start(words, Map.of())));
        assertEquals("healthy", results.get("two").get("verdict"), results.toString());
        assertEquals("connection refused by one:" + port, results.get("one").get("reason"));
    }

    // ---- what would hold the pass -------------------------------------------------------------------------

    /** Its times are far away from the limit of 30 seconds. */
    @Test
    void whatIsFoundWhileTheMachineSleepsIsDiscarded() {
        MutableClock clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
        home.clock = clock;
        try (TestServer server = new TestServer((path, body) -> {
            clock.add(path.contains("moment") ? Duration.ofSeconds(1) : Duration.ofHours(1));
            return new TestServer.Answer(path.contains("good") ? 200 : 500, "");
        })) {
            home.rules("""
                watch('slept') { url '%1$s'; attempts 1; restart { run 'touch restarted' } }
                """.formatted(server.url()));
            Map<String, Map<?, ?>> results = results(home.watchdog("--json"));
            assertEquals("inconclusive", results.get("slept").get("verdict"));
            assertEquals(SENTENCES.get("slept"), results.get("slept").get("reason"));
            assertFalse(Files.exists(folder.resolve("restarted")));
            Run moment = home.watchdog("check", server.url() + "moment");
            assertEquals(1, moment.exit(), moment.toString());
            assertEquals(0, home.watchdog("check", server.url() + "good").exit());
        }
    }

    @Test
    void aCheckThatIsAbandonedClosesItsConnection() {
        AtomicBoolean closed = new AtomicBoolean();
        String drip = faults.drip(OK + "\r\n", () -> closed.set(true));
        home.rules("watch('drip') { url '%s'; attempts 1; timeout 300.milliseconds }".formatted(drip));
        assertEquals(1, home.watchdog("check").exit());
        Wait.until("the connection to be closed", closed::get);
    }

    /** Together the bodies are larger than the heap. */
    @Test
    void hundredsOfLargeBodiesDoNotUseUpTheMemory() throws Exception {
        home.rules("""
            for (i in 1..130) {
                watch("endless $i") { url '%s'; attempts 1; timeout 60.seconds; healthy { status == 201 } }
                watch("bomb $i") { url '%s'; attempts 1; timeout 60.seconds; healthy { status == 201 } }
                if (i > 125) watch("page $i") {
                    url '%1$s'
                    attempts 1
                    timeout 60.seconds
                    healthy { body == 'ok' }
                }
            }
            watch('good') { url '%s'; attempts 1; timeout 60.seconds }
            """.formatted(faults.endless(OK + "\r\n", out -> out),
            faults.endless(OK + "Content-Encoding: gzip\r\n\r\n", CheckTest::cheapGzip),
            faults.answering(200, "ok")));
        List<String> words = new ArrayList<>(Run.process("check", "--json"));
        words.add(1, "-Xmx256m");
        Map<String, Map<?, ?>> results = results(ended(start(words, Map.of())));
        results.forEach((name, result) -> assertEquals(name.equals("good") ? "healthy" : "unhealthy",
            result.get("verdict"), name + ": " + result.get("reason")));
        assertEquals(266, results.size());
    }

    /** One compressed piece of zeros, again and again: no work for the machine that runs the test. */
    private static OutputStream cheapGzip(OutputStream out) {
        Deflater deflater = new Deflater(9, true);
        deflater.setInput(new byte[1 << 16]);
        byte[] piece = new byte[1 << 10];
        int length = deflater.deflate(piece, 0, piece.length, Deflater.FULL_FLUSH);
        byte[] begin = Faults.bytes(GZIP_HEAD);
        return new OutputStream() {
            private boolean begun;

            @Override public void write(int one) { throw new UnsupportedOperationException(); }

            @Override public void write(byte[] more, int from, int count) throws IOException {
                if (!begun) out.write(begin);
                begun = true;
                out.write(piece, 0, length);
            }
        };
    }

    /** The pass ends before the silent servers do. */
    @Test
    void serversThatAreSlowDoNotKeepOthersFromBeingChecked() {
        Map<String, Map<?, ?>> results = results(home.rules("""
            deadline 15.seconds
            for (i in 1..64) watch("silent $i") { url '%s'; timeout 60.seconds }
            watch('good') { url '%s' }
            """.formatted(faults.silent(), faults.answering(200, "ok"))).watchdog("check", "--json"));
        assertEquals("healthy", results.get("good").get("verdict"), results.get("good").toString());
        assertEquals("inconclusive", results.get("silent 1").get("verdict"));
    }

    /** In a process of its own, because nothing can end a thread that loops. */
    @Test
    void aConditionWithoutEndHoldsNeitherThePassNorTheOtherWatches() throws Exception {
        String site = faults.answering(200, "a".repeat(5000));
        home.rules("""
            watch('loop') {
                url '%1$s'
                timeout 1.second
                healthy { while (true) { } }
            }
            watch('regex') {
                url '%1$s'
                timeout 1.second
                healthy { body ==~ /(.*a){25}b/ }
            }
            watch('deep') {
                url '%1$s'
                healthy { (body * 50) ==~ /(a|b)*/ }
            }
            watch('well') { url '%1$s' }
            """.formatted(site));
        Run run = ended(process("--json"));
        assertEquals(3, run.exit(), run.toString());
        Map<String, Map<?, ?>> results = results(run);
        assertEquals(SENTENCES.get("a condition without end"), results.get("loop").get("reason"));
        assertEquals(SENTENCES.get("a condition without end"), results.get("regex").get("reason"));
        assertEquals("inconclusive", results.get("deep").get("verdict"));
        assertEquals("healthy", results.get("well").get("verdict"));
    }

    /** A network namespace with a silent name server; a lookup in it takes 150 seconds. */
    @Test
    void aNameServerThatIsSilentDoesNotHoldThePass() throws Exception {
        assumeTrue(canUnshare("exit((stat '/')[4])"),
            "only root keeps the owners of all folders in a network of its own");
        home.rules("""
            watch('site') {
                url 'http://example.com/'
                attempts 1
                timeout 1.second
            }
            if (host == 'nowhere') watch('never') { command 'true' }
            """).file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
            .file("nsswitch.conf", "hosts: files dns\n");
        // SIOCGIFFLAGS and SIOCSIFFLAGS bring the loopback interface up, without any tool for it.
        Run run = ended(unshared("""
            use Socket;
            socket(my $mute, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
            my $lo = pack('a16 s x22', 'lo', 0);
            ioctl($mute, 0x8913, $lo) or die "flags: $!";
            ioctl($mute, 0x8914, pack('a16 s x22', 'lo', (unpack('a16 s', $lo))[1] | 1)) or die "up: $!";
            bind($mute, sockaddr_in(53, INADDR_LOOPBACK)) or die "bind: $!";
            if (open(my $name, '>', '/proc/sys/kernel/hostname')) { print $name 'nowhere'; close($name); }
            for my $file ('resolv.conf', 'nsswitch.conf') {
                system('mount', '--bind', $file, "/etc/$file") == 0 or die "mount $file";
            }
            exit(system(@ARGV) >> 8);
            """, "check"));
        assertEquals(1, run.exit(), run.toString());
        assertTrue(run.out().contains(SENTENCES.get("a silent name server")), run.toString());
        assertFalse(run.out().contains("never"), "the name of the machine is asked from that server too");
    }

    @Test
    void aMachineWithoutANetworkSaysThatItIsUnreachable() throws Exception {
        assumeTrue(canUnshare("exit 0"), "no right to make a network of one's own here");
        Run run = ended(unshared("exit(system(@ARGV) >> 8);", "check", "http://192.0.2.1/"));
        assertEquals(1, run.exit(), run.toString());
        assertTrue(run.out().contains(SENTENCES.get("no network")), run.toString());
    }

    /** macOS 15 gives such an error to programs that may not use the local network. */
    @Test
    void onAMacAPrivateAddressThatIsUnreachableIsNoReasonToRestart() throws Exception {
        assumeTrue(canUnshare("exit 0"), "no right to make a network of one's own here");
        home.rules("""
            watch('nas') { url 'http://192.168.7.7/'; attempts 1 }
            watch('port') { tcp '192.168.7.7:80'; attempts 1 }
            watch('public') { url 'http://192.0.2.1/'; attempts 1 }
            heartbeat 'http://192.168.7.7/'
            """);
        List<String> words = Run.process("check", "--json"), mac = new ArrayList<>(words);
        mac.set(words.indexOf("watchdog"), OnMac.class.getName());
        Map<String, Map<?, ?>> results = results(ended(unshared("exit(system(@ARGV) >> 8);", mac)));
        assertEquals("inconclusive", results.get("nas").get("verdict"));
        assertEquals(SENTENCES.get("a Mac without the permission"), results.get("nas").get("reason"));
        assertEquals(SENTENCES.get("a Mac without the permission"), results.get("port").get("reason"));
        assertEquals("unhealthy", results.get("public").get("verdict"));
        mac.remove("check");
        ended(unshared("exit(system(@ARGV) >> 8);", mac)).errs("heartbeat: not accepted: "
            + SENTENCES.get("a Mac without the permission"));
        results = results(ended(unshared("exit(system(@ARGV) >> 8);", words)));
        assertEquals("unhealthy", results.get("nas").get("verdict"), "on Linux");
    }

    /** Named a Mac only after Java has loaded its sockets for this system. */
    static final class OnMac {
        public static void main(String... args) throws IOException {
            new ServerSocket(0).close();
            System.setProperty("os.name", "Mac OS X");
            watchdog.main(args);
        }
    }

    private Process unshared(String perl, String... args) throws IOException {
        return unshared(perl, Run.process(args));
    }

    private Process unshared(String perl, List<String> words) throws IOException {
        List<String> command = new ArrayList<>(List.of("unshare", "-rmnu", "perl", "-e", perl));
        command.addAll(words);
        return start(command, Map.of());
    }

    private static boolean canUnshare(String probe) throws Exception {
        try {
            return new ProcessBuilder("unshare", "-rmnu", "perl", "-e", probe).start().waitFor() == 0;
        } catch (IOException noUnshare) {
            return false;
        }
    }

    private Process process(String... args) throws IOException { return process(Map.of(), args); }

    private Process process(Map<String, String> env,
        String... args) throws IOException { return start(Run.process(args), env); }

    private Process start(List<String> command, Map<String, String> env) throws IOException {
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile())
            .redirectOutput(folder.resolve("out.txt").toFile())
                .redirectError(folder.resolve("err.txt").toFile());
        builder.environment().put("HOME", folder.toString());
        builder.environment().remove("XDG_STATE_HOME");
        builder.environment().putAll(env);
        return builder.start();
    }

    /** The limit is far above what a busy machine needs, and far below what would hold the pass. */
    private Run ended(Process process) throws Exception {
        boolean ended = process.waitFor(180, TimeUnit.SECONDS);
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly();
        Run run =
            new Run(process.waitFor(), Files.readString(folder.resolve("out.txt")),
            Files.readString(folder.resolve("err.txt")));
        assertTrue(ended, "it did not end; so far " + run);
        return run;
    }
}

/** Servers on loopback, each faulty in another way. Where the name does not matter it is 127.0.0.1. */
final class Faults implements AutoCloseable {
    /** What a server does with a connection, once the head of the request has been read. */
    private interface Manners { void on(Socket socket) throws Exception; }

    final HeldCertificate authority =
        new HeldCertificate.Builder().certificateAuthority(0).commonName("our own authority").build();
    private final List<AutoCloseable> open = new ArrayList<>();

    String refused() { return "http://127.0.0.1:" + refusedPort() + "/"; }

    /** Bound, so that no other test gets it, and without a listener. */
    int refusedPort() {
        try {
            Socket bound = kept(new Socket());
            bound.bind(new InetSocketAddress("127.0.0.1", 0));
            return bound.getLocalPort();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Its backlog is full, so the kernel answers no further SYN. */
    String blackHole() {
        try {
            ServerSocket full = kept(new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1")));
            for (int i = 0; i < 8; i++) {
                SocketChannel caller = kept(SocketChannel.open());
                caller.configureBlocking(false);
                caller.connect(new InetSocketAddress("127.0.0.1", full.getLocalPort()));
            }
            return "http://127.0.0.1:" + full.getLocalPort() + "/";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Accepts, and that is all. */
    String silent() {
        try {
            return "http://127.0.0.1:"
                + kept(new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"))).getLocalPort() + "/";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** These bytes, then the end. Each character is one byte. */
    String raw(String answer) { return server(socket -> socket.getOutputStream().write(bytes(answer))); }

    /** These bytes, then a reset. */
    String reset(String answer) {
        return server(socket -> {
            socket.getOutputStream().write(bytes(answer));
            if (!answer.isEmpty()) Thread.sleep(200); // the reset discards what has not arrived
            socket.setSoLinger(true, 0);
        });
    }

    /** These bytes, and then one after the other, ten a second. */
    String drip(String answer) { return drip(answer, () -> { }); }

    String drip(String answer, Runnable whenClosed) {
        return server(socket -> {
            try {
                socket.getOutputStream().write(bytes(answer));
                for (; ; Thread.sleep(100)) socket.getOutputStream().write('x');
            } catch (IOException closed) {
                whenClosed.run();
            }
        });
    }

    /** These bytes, and then more and more until nobody reads any further. */
    String endless(String answer, Function<OutputStream, OutputStream> encoding) {
        return server(socket -> {
            socket.getOutputStream().write(bytes(answer));
            OutputStream body = encoding.apply(socket.getOutputStream());
            for (byte[] more = bytes("x".repeat(1 << 16)); ; ) body.write(more);
        });
    }

    /** Promises an answer, again and again. */
    String continuing() {
        return server(socket -> {
            while (true) socket.getOutputStream().write(bytes("HTTP/1.1 100 Continue\r\n\r\n"));
        });
    }

    String answering(int status,
        String body) { return answering(new MockResponse(status, Headers.of(), body)); }

    String redirecting(String to) {
        return answering(new MockResponse.Builder().code(302).addHeader("Location", to).build());
    }

    static MockResponse status(int code) { return new MockResponse.Builder().code(code).build(); }

    /** One after the other, and the last of them for ever. */
    String answering(MockResponse... answers) { return "http://127.0.0.1:" + serve(answers).getPort() + "/"; }

    MockWebServer serve(MockResponse... answers) { return started(new MockWebServer(), answers); }

    /** POST leads to a page that accepts only GET. */
    String loginForm() {
        MockWebServer server = new MockWebServer();
        started(server);
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                if (request.getUrl().encodedPath().equals("/")) return new MockResponse.Builder().code(302)
                    .addHeader("Location", "/home").build();
                return status(request.getMethod().equals("GET") ? 200 : 405);
            }
        });
        return "http://127.0.0.1:" + server.getPort() + "/";
    }

    /** 200 for a request with these credentials, else 401. */
    String protectedBy(String credentials) {
        MockWebServer server = new MockWebServer();
        started(server);
        server.setDispatcher(new Dispatcher() {
            @Override public MockResponse dispatch(RecordedRequest request) {
                return status(credentials.equals(request.getHeaders().get("Authorization")) ? 200 : 401);
            }
        });
        return "http://127.0.0.1:" + server.getPort() + "/";
    }

    /** An https server of that certificate, known as localhost. */
    String tls(HeldCertificate certificate, MockResponse... answers) {
        return tls(new HandshakeCertificates.Builder().heldCertificate(certificate), answers);
    }

    /** With the certificate of the authority that stands between. */
    String tls(HeldCertificate certificate, X509Certificate between) {
        return tls(new HandshakeCertificates.Builder().heldCertificate(certificate, between));
    }

    private String tls(HandshakeCertificates.Builder certificates, MockResponse... answers) {
        return "https://localhost:" + tlsServer(certificates, answers).getPort() + "/";
    }

    MockWebServer tlsServer(HandshakeCertificates.Builder certificates, MockResponse... answers) {
        MockWebServer server = new MockWebServer();
        server.useHttps(certificates.build().sslSocketFactory());
        return started(server, answers);
    }

    /** A good certificate of our own authority. */
    HeldCertificate serving(String host) { return issued(host, Duration.ofDays(-1), Duration.ofDays(90)); }

    HeldCertificate issued(String host, Duration from, Duration until) {
        Instant now = Instant.now();
        return new HeldCertificate.Builder().signedBy(authority).addSubjectAlternativeName(host)
            .validityInterval(now.plus(from).toEpochMilli(), now.plus(until).toEpochMilli()).build();
    }

    private MockWebServer started(MockWebServer server, MockResponse... answers) {
        List<MockResponse> left =
            new ArrayList<>(answers.length == 0 ? List.of(Faults.status(200)) : List.of(answers));
        server.setDispatcher(new Dispatcher() {
            @Override public synchronized MockResponse peek() { return left.get(0); }

            @Override public synchronized MockResponse dispatch(RecordedRequest request) {
                return left.size() > 1 ? left.remove(0) : left.get(0);
            }
        });
        try {
            server.start(InetAddress.getByName("127.0.0.1"), 0);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return kept(server);
    }

    private String server(Manners manners) {
        try {
            ServerSocket server = kept(new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1")));
            thread(() -> {
                while (true) {
                    Socket socket = server.accept();
                    thread(() -> {
                        try (socket) {
                            readHead(socket.getInputStream());
                            manners.on(socket);
                        }
                        return null;
                    });
                }
            });
            return "http://127.0.0.1:" + server.getLocalPort() + "/";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** To the blank line, or a TLS greeting as far as it came: unread bytes turn a close into a reset. */
    private static void readHead(InputStream in) throws IOException {
        byte[] some = new byte[8192];
        for (String head = ""; !head.contains("\r\n\r\n") && !head.startsWith("\u0016"); ) {
            int read = in.read(some);
            if (read < 0) return;
            head += new String(some, 0, read, StandardCharsets.ISO_8859_1);
        }
    }

    private static void thread(java.util.concurrent.Callable<?> work) {
        Thread thread = new Thread(() -> {
            try {
                work.call();
            } catch (Exception clientHungUpOrServerClosed) {
                return;
            }
        }, "fault");
        thread.setDaemon(true);
        thread.start();
    }

    static byte[] bytes(String text) { return text.getBytes(StandardCharsets.ISO_8859_1); }

    private <T extends AutoCloseable> T kept(T resource) {
        open.add(resource);
        return resource;
    }

    @Override public void close() {
        for (AutoCloseable one : open) {
            try {
                one.close();
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
