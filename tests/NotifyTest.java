import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Stream;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import mockwebserver3.SocketEffect;
import okhttp3.tls.HandshakeCertificates;

import org.junit.jupiter.api.AfterAll;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** Who gets which message in which shape, and what happens to one that is not accepted. */
class NotifyTest {
    private static final TimeZone ZONE = TimeZone.getDefault();

    /** What people read, by situation. */
    private static final Map<String, String> SENTENCES = Map.ofEntries(
        entry("down", "expected status == 200, but status was 530; got 'error code: 1033'. "
            + "Restarting it: run 'touch plex.up'."),
        entry("healed", "Found down at 2026-03-01 08:00: expected status == 200, but status was 530; "
            + "got 'error code: 1033'. Ran 'touch plex.up'. Healthy 0 ms later."),
        entry("gave up, title", "plex is still down; watchdog has stopped restarting it"),
        entry("gave up, both", "a is still down; watchdog has stopped restarting it and b is still down; "
            + "watchdog has stopped restarting it"),
        entry("gave up", "Found down at 2026-03-01 08:00: expected status == 200, but status was 401; "
            + "got '<h1>Unauthorized</h1>'. Restarted 3 times, last at 2026-03-01 08:10: run 'true' "
            + "(did not help). No restart now: the restart limit of 3 per 1 h is reached; the next restart "
            + "is possible at 2026-03-01 09:10."),
        entry("recovered", "Found down at 2026-03-01 08:00: expected status == 200, but status was 530; got "
            + "'error code: 1033'. Restarted at 2026-03-01 08:00: run 'true' (healthy only later). "
            + "Healthy 15 min later."),
        entry("recovered by itself", "Found down at 2026-03-01 08:00: "
            + "expected status == 200, but status was 530; got 'error code: 1033'. Healthy 5 min later."),
        entry("late", "At 2026-03-01 08:00: %s"),
        entry("waits", "watchdog: %s: not accepted: %s; watchdog will send it again\n"),
        entry("rejected", "watchdog: %s: not accepted: %s; watchdog will not send it again\n"),
        entry("orElse", "watchdog: %s: not accepted: %s; webhook accepted it instead\n"),
        entry("both fail", "watchdog: webhook: not accepted: %s; webhook: not accepted: %s; watchdog will "
            + "%s it again\n"),
        entry("hangs", "Restarting it: run 'tests/heal'.\"' did not end within 10 s and was killed; "
            + "watchdog will send it again\n"),
        entry("busy", "watchdog: closure: not answered yet; watchdog will send it again\n"),
        entry("heartbeat", "watchdog: heartbeat: not accepted: 404\n"),
        entry("broken rules", "watchdog: rules.groovy has mistakes; using the last working rules\n"),
        entry("tell", "webhook: accepted\nwebhook: not accepted: 401 bad token\ncommand hear: accepted\n"));

    private static String sentence(String situation, Object... values) {
        return SENTENCES.get(situation).formatted(values);
    }

    @TempDir Path folder;
    private final Inbox inbox = new Inbox();
    private MutableClock clock;
    private TestFolder home;
    private Service plex;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    @BeforeEach void open() throws IOException {
        inbox.server.start();
        clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
        home = new TestFolder(folder);
        home.clock = clock;
        plex = new Service(folder, "plex");
        script("hear", "printf '%s\\n' \"$1\" >> heard");
        script("tell-all", """
            for v in EVENT WATCH TITLE TEXT AT SINCE; do
                eval "printf '%s=%s\\n' $v \\"\\$WATCHDOG_$v\\"" >> variables
            done
            printf '%s' "$2" > last
            """);
    }

    @AfterEach void close() {
        plex.close();
        inbox.server.close();
    }

    // ---- on the wire ------------------------------------------------------------------------------------

    @Test void eachServiceGetsItsOwnPathHeadersAndJson() {
        watched("""
            notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), priority: 1, sound: 'siren',
                device: 'a', url: '@/po')
            notify ntfy(topic: 'home', token: 'tk_1', priority: 4, tags: ['house'], url: '@/ntfy/')
            notify slack(url: '@/slack/T0/B0')
            notify discord(url: '@/discord/1')
            notify telegram(token: '12:ab', chat: '-100', url: '@/telegram')
            notify webhook('@/plain')
            notify webhook('@/own', headers: ['X-Key': 'k 1']) { event ->
                [says: event.title, of: event.watch, was: event.kind.name()]
            }
            """, "restart { run 'touch plex.up' }");
        whenTold(() -> inbox.requests.size() >= 7);
        assertEquals(0, pass().exit());
        String down = sentence("down"), both = "plex is down\n" + down;
        assertJson("/po/1/messages.json", Map.of("token", "a1".repeat(15), "user", "u2".repeat(15),
            "title", "plex is down", "message", down, "timestamp", 1772352000, "priority", 1,
            "sound", "siren", "device", "a"));
        assertJson("/ntfy/", Map.of("topic", "home", "title", "plex is down", "message", down, "priority", 4,
            "tags", List.of("house")));
        assertJson("/slack/T0/B0", Map.of("text", both));
        assertJson("/discord/1", Map.of("content", both, "allowed_mentions", Map.of("parse", List.of())));
        assertJson("/telegram/bot12:ab/sendMessage", Map.of("chat_id", "-100", "text", both));
        assertJson("/plain", Map.of("kind", "down", "watch", "plex", "title", "plex is down", "text", down,
            "at", "2026-03-01T08:00:00Z", "since", "2026-03-01T08:00:00Z"));
        assertJson("/own", Map.of("says", "plex is down", "of", "plex", "was", "down"));
        assertEquals(14, inbox.requests.size(), "down and healed for each");
        for (RecordedRequest request : inbox.requests) {
            String path = path(request);
            assertEquals("POST", request.getMethod());
            assertTrue(header(request, "Content-Type").startsWith("application/json"));
            assertEquals("/ntfy/".equals(path) ? "Bearer tk_1" : null, header(request, "Authorization"));
            assertEquals("/own".equals(path) ? "k 1" : null, header(request, "X-Key"));
        }
        assertEquals(sentence("healed"), json(last("/plain")).get("text"));
    }

    private void assertJson(String path, Map<String, ?> expected) {
        assertEquals(expected, json(all(path).get(0)));
    }

    @Test void priority2OfPushoverSaysHowOftenToRepeat() {
        watched("notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), priority: 2, url: '@')");
        pass();
        Map<?, ?> sent = json(last("/1/messages.json"));
        assertEquals(2, sent.get("priority"));
        assertEquals(60, sent.get("retry"));
        assertEquals(3600, sent.get("expire"));
    }

    @Test void aCommandGetsTheMessageAsItsLastArgumentAndInVariables() throws IOException {
        watched("notify command('tests/tell-all first')", "restart { run 'touch plex.up' }");
        whenTold(() -> Files.exists(folder.resolve("last")));
        pass();
        assertEquals("plex is healthy again: " + sentence("healed"), read("last"));
        assertEquals("""
            EVENT=down
            WATCH=plex
            TITLE=plex is down
            TEXT=%s
            AT=2026-03-01T08:00:00Z
            SINCE=2026-03-01T08:00:00Z
            EVENT=healed
            WATCH=plex
            TITLE=plex is healthy again
            TEXT=%s
            AT=2026-03-01T08:00:00Z
            SINCE=2026-03-01T08:00:00Z
            """.formatted(sentence("down"), sentence("healed")), read("variables"));
    }

    @Test void aClosureGetsTheEvent() throws IOException {
        watched("""
            notify { event ->
                new File('%s/closure') << "$event.kind $event.watch $event.title|$event.text|$event.at\\n"
            }
            """.formatted(folder), "restart { run 'touch plex.up' }");
        whenTold(() -> Files.exists(folder.resolve("closure")));
        pass();
        assertEquals("down plex plex is down|" + sentence("down") + "|2026-03-01T08:00:00Z",
            Files.readAllLines(folder.resolve("closure")).get(0));
    }

    @Test void whatAServerSaysStaysDataOnItsWayToAPhone() throws IOException {
        plex.body = "'; touch PWNED; '$(touch PWNED)`touch PWNED` \u001b[31mred\u0007 \u202eback\r\n"
            + "\"quoted\" \\ <b>&";
        home.rules("""
            watch('plex') {
                url '%s'
                attempts 1
                healthy { body == 'ok' }
                notify command('tests/tell-all first')
                notify webhook('%s')
                notify slack(url: '%s')
            }
            """.formatted(plex.url(), inbox.url("/plain"), inbox.url("/slack")));
        pass();
        assertFalse(Files.exists(folder.resolve("PWNED")));
        String said = Files.readString(folder.resolve("last"));
        assertTrue(said.contains("touch PWNED; '$(touch PWNED)`touch PWNED`"), said);
        assertFalse(said.matches("(?s).*[\\p{Cntrl}\\p{Cf}].*"), said);
        Map<?, ?> sent = json(last("/plain"));
        assertEquals(said, sent.get("title") + ": " + sent.get("text"));
    }

    @Test void aTextThatIsLongerThanAServiceAcceptsIsCutWithAnEllipsis() {
        StringBuilder watches = new StringBuilder();
        for (int i = 0; i < 90; i++)
            watches.append("watch('w%02d %s') { tcp '127.0.0.1:1'; attempts 1 }\n"
                .formatted(i, "é".repeat(50)));
        home.rules("""
            notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), url: '@/pushover')
            notify ntfy(topic: 't', url: '@/ntfy')
            notify slack(url: '@/slack')
            notify discord(url: '@/discord')
            notify telegram(token: 't', chat: 'c', url: '@/telegram')
            """.replace("@", inbox.url("")) + watches);
        assertEquals(1, pass().exit());
        String title = (String) json(last("/pushover/1/messages.json")).get("title");
        assertTrue(title.length() <= 250 && title.endsWith(" and 87 more"), title);
        assertCut("/pushover/1/messages.json", "message", 1024);
        assertCut("/ntfy/", "message", 1300);
        assertCut("/slack", "text", 3000);
        assertCut("/discord", "content", 2000);
        assertCut("/telegram/bott/sendMessage", "text", 4096);
        String message = (String) json(last("/ntfy/")).get("message");
        assertTrue(message.getBytes(StandardCharsets.UTF_8).length <= 4096, "ntfy accepts 4096 bytes");
    }

    @Test void aTextThatFitsIsNotCut() {
        assertEquals("🌍".repeat(250), Text.cut("🌍".repeat(250), 250));
        assertEquals("🌍".repeat(249) + "…", Text.cut("🌍".repeat(251), 250));
    }

    private void assertCut(String path, String field, int limit) {
        String text = (String) json(last(path)).get(field);
        assertTrue(text.length() <= limit && text.length() > limit - 3, path + ": " + text.length());
        assertTrue(text.endsWith("…"), path);
    }

    @Test void slackGetsNoMarkup() {
        plex.body = "<!channel> & <http://evil|click>";
        home.rules("watch('plex') { url '%s'; attempts 1; healthy { body == 'ok' }; notify slack(url: '%s') }"
            .formatted(plex.url(), inbox.url("/slack")));
        pass();
        String text = (String) json(last("/slack")).get("text");
        assertTrue(text.contains("&lt;!channel&gt; &amp; &lt;http://evil|click&gt;"), text);
    }

    // ---- who gets a message -----------------------------------------------------------------------------

    @Test void onPicksKindsAndHooksAtTheTopAreForEveryWatch() {
        home.rules("""
            notify webhook('@/all')
            notify webhook('@/good'), on: [healed, recovered]
            watch('plex') {
                url '%s'
                attempts 1
                restart { run 'touch plex.up' }
                notify webhook('@/bad'), on: [down]
            }
            watch('other') { tcp '127.0.0.1:1'; attempts 1 }
            """.formatted(plex.url()).replace("@", inbox.url("")));
        whenTold(() -> inbox.requests.size() >= 2);
        pass();
        assertEquals(List.of("plex is down and other is down", "plex is healthy again"),
            inbox.titles("/all"));
        assertEquals(List.of("plex is healthy again"), inbox.titles("/good"));
        assertEquals(List.of("plex is down"), inbox.titles("/bad"));
    }

    @Test void aHookThatIsNamedTwiceGetsOneMessage() {
        watched("notify webhook('@/hook')\nnotify webhook('@/hook')", "");
        pass();
        assertEquals(List.of("plex is down"), inbox.titles("/hook"));
    }

    @Test void orElseGetsWhatTheFirstHookDoesNotAccept() {
        answer("/first", 500, "sorry");
        watched("notify webhook('@/first'), orElse: webhook('@/second')", "");
        Run run = pass();
        assertEquals(List.of("plex is down"), inbox.titles("/second"));
        assertEquals(sentence("orElse", "webhook", "500 sorry"), run.err());
        assertEquals(1, run.exit());
        pass();
        assertEquals(1, inbox.titles("/second").size(), "and it is delivered");
    }

    @Test void threeWatchesThatGoDownTogetherAreOneMessageToEachHook() {
        home.rules("notify webhook('@/one')\nnotify webhook('@/two')\n".replace("@", inbox.url(""))
            + "for (name in ['a', 'b', 'c']) { watch(name) { tcp '127.0.0.1:1'; attempts 1 } }\n");
        pass();
        assertEquals(List.of("a is down, b is down and c is down"), inbox.titles("/one"));
        assertEquals(List.of("a is down, b is down and c is down"), inbox.titles("/two"));
        pass();
        assertEquals(2, inbox.requests.size(), "no message each five minutes");
    }

    @Test void threeNamesBehindOneTunnelAreOneRestartAndOneMessage() {
        home.rules("""
            notify webhook('%s')
            def tunnel = restart { sh 'echo x >> plex.restarts; touch plex.up' }
            for (name in ['web', 'films', 'mail']) {
                watch(name) {
                    url '%s' + name
                    attempts 1
                    healthy { status == 200 }
                    restart tunnel
                }
            }
            """.formatted(inbox.url("/hook"), plex.url()));
        whenTold(() -> !inbox.requests.isEmpty());
        Run run = pass();
        assertEquals(0, run.exit());
        assertEquals(1, plex.restarts());
        assertEquals(List.of("web is down, films is down and mail is down",
            "web is healthy again, films is healthy again and mail is healthy again"), inbox.titles("/hook"));
        assertEquals(3, run.out().lines().filter(line -> line.matches("\\w+ +healed .*")).count(), run.out());
    }

    @Test void aServiceThatNoRestartHelpsIsNotRestartedForEver() {
        plex.status = 401;
        plex.body = "<h1>Unauthorized</h1>";
        watched("notify webhook('@/hook')", "limit 3, per: 1.hour\nrestart { run 'true' }");
        for (int i = 0; i < 8; i++) pass();
        assertEquals(List.of("plex is down", "plex is still down", sentence("gave up, title")),
            inbox.titles("/hook"));
        assertEquals(sentence("gave up"), json(last("/hook")).get("text"));
    }

    @Test void watchesThatAreNoLongerRestartedAreOneMessage() {
        home.rules("""
            notify webhook('%s')
            for (name in ['a', 'b']) watch(name) {
                tcp '127.0.0.1:1'
                attempts 1
                within 1.millisecond
                limit 1, per: 1.hour
                restart { run 'true' }
            }
            """.formatted(inbox.url("/hook")));
        for (int i = 0; i < 3; i++) pass();
        assertEquals(sentence("gave up, both"), json(last("/hook")).get("title"));
    }

    @Test void ofRemindersThatWaitOnlyTheNewestIsKept() {
        answer("/hook", 503, "busy");
        watched("notify webhook('@/hook')", "remind 10.minutes");
        for (int i = 0; i < 20; i++) pass();
        assertEquals(List.of("plex is down", "plex is still down"), home.watchdog("status").out().lines()
            .filter(line -> line.startsWith("not delivered")).map(line -> line.replaceAll(".*: ", "")).toList());
    }

    @Test void messagesThatWaitedHaveTheKindOfTheNewest() {
        answer("/hook", 503, "busy");
        watched("notify webhook('@/hook')", "limit 1, per: 1.hour\nrestart { run 'true' }");
        for (int i = 0; i < 3; i++) pass();
        inbox.answers.clear();
        pass();
        assertEquals(sentence("gave up, title"), json(last("/hook")).get("title"));
        assertEquals("gave_up", json(last("/hook")).get("kind"));
    }

    @Test void aMessageSaysWhatWasTriedBeforeAServiceRecovered() {
        watched("notify webhook('@/hook')", "limit 1, per: 1.hour\nrestart { run 'true' }");
        for (int i = 0; i < 3; i++) pass();
        plex.start();
        pass();
        assertEquals("plex is healthy again", json(last("/hook")).get("title"));
        assertEquals(sentence("recovered"), json(last("/hook")).get("text"));
    }

    @Test void aMessageSaysThatAServiceRecoveredWithoutARestart() {
        watched("notify webhook('@/hook')");
        pass();
        plex.start();
        pass();
        assertEquals("plex is healthy again", json(last("/hook")).get("title"));
        assertEquals(sentence("recovered by itself"), json(last("/hook")).get("text"));
    }

    // ---- a message that is not accepted -----------------------------------------------------------------

    @Test void aMessageThatIsRejectedIsReportedOnceAndNeverSentAgain() {
        List<Integer> codes = List.of(400, 401, 403, 410, 413, 422);
        for (int code : codes) answer("/" + code, code, "no such token");
        watchedEach(codes);
        Run run = pass();
        assertEquals(1, run.exit());
        for (int code : codes) assertSays(run, sentence("rejected", "webhook", code + " no such token"));
        assertEquals("", pass().err());
        for (int code : codes) assertEquals(1, all("/" + code).size());
    }

    @Test void aMessageThatMeetsTroubleWaitsAndIsSentInTheNextPassWithItsTime() {
        List<Integer> codes = List.of(500, 502, 503, 599, 408, 429);
        for (int code : codes) answer("/" + code, code, "busy");
        inbox.answers.put("/0",
            new MockResponse.Builder().onResponseStart(new SocketEffect.CloseSocket()).build());
        watchedEach(List.of(500, 502, 503, 599, 408, 429, 0));
        Run run = pass();
        assertEquals(1, run.exit());
        for (int code : codes) assertSays(run, sentence("waits", "webhook", code + " busy"));
        assertEquals(7, run.err().lines().count(), run.err());
        assertEquals(7, waiting());
        inbox.answers.clear();
        inbox.requests.clear();
        clock.add(Duration.ofMinutes(10));
        assertEquals("", pass().err());
        for (int code : codes) {
            Map<?, ?> late = json(last("/" + code));
            assertEquals("w" + code + " is down", late.get("title"));
            assertEquals("2026-03-01T08:00:00Z", late.get("at"));
            assertTrue(late.get("text").toString().startsWith(sentence("late", "")), late.toString());
        }
        pass();
        assertEquals(7, inbox.requests.size(), "and each only once");
    }

    private long waiting() {
        return home.watchdog("status").out().lines()
            .filter(line -> line.startsWith("not delivered yet to webhook since 2026-03-01 08:00: ")).count();
    }

    /** A watch that is down for each, with a hook of its own. */
    private void watchedEach(List<Integer> codes) {
        home.rules("""
            for (code in %s) {
                watch("w$code") { tcp '127.0.0.1:1'; attempts 1; notify webhook("%s$code") }
            }
            """.formatted(codes, inbox.url("/")));
    }

    @Test void aHookThatFailsIsTriedOnceAPass() {
        answer("/hook", 500, "sorry");
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        Run run = pass();
        assertEquals(sentence("waits", "webhook", "500 sorry"), run.err());
        assertEquals(0, run.exit());
        assertEquals(1, all("/hook").size());
        pass();
        assertEquals(2, all("/hook").size());
    }

    @Test void aHookThatFailsIsTriedInTheNextPassHoweverSoonThatComes() {
        answer("/hook", 500, "sorry");
        watched("notify webhook('@/hook')");
        home.watchdog();
        clock.add(Duration.ofSeconds(1));
        home.watchdog();
        assertEquals(2, all("/hook").size());
    }

    @Test void whatWaitedIsOneMessageInItsOrder() {
        answer("/hook", 503, "slow down");
        watched("notify webhook('@/hook')", "limit 1, per: 1.hour\nrestart { run 'true' }");
        for (int i = 0; i < 3; i++) pass();
        inbox.answers.remove("/hook");
        pass();
        assertEquals(sentence("gave up, title"), json(last("/hook")).get("title"));
        List<String> lines = json(last("/hook")).get("text").toString().lines().toList();
        assertEquals(3, lines.size(), lines.toString());
        assertTrue(lines.get(0).contains(": plex is down. "), lines.get(0));
        assertTrue(lines.get(1).contains(": plex is still down. "), lines.get(1));
        assertTrue(lines.get(2).contains(": " + sentence("gave up, title") + ". "), lines.get(2));
    }

    @Test void aMessageThatTheHookRejectsWaitsForItsFallbackAlone() {
        answer("/first", 400, "bad");
        answer("/second", 503, "busy");
        watched("notify webhook('@/first'), orElse: webhook('@/second')", "");
        assertEquals(sentence("both fail", "400 bad", "503 busy", "send"), pass().err());
        assertEquals(1, waiting());
        inbox.answers.clear();
        assertEquals("", pass().err());
        assertEquals(1, all("/first").size(), "a rejected message is never repeated");
        assertEquals(2, all("/second").size());
        assertEquals(0, waiting());
    }

    @Test void aMessageThatBothRejectIsReportedAndNeverSentAgain() {
        answer("/first", 400, "bad");
        answer("/second", 400, "bad");
        watched("notify webhook('@/first'), orElse: webhook('@/second')", "");
        assertEquals(sentence("both fail", "400 bad", "400 bad", "not send"), pass().err());
        assertEquals("", pass().err());
        assertEquals(2, inbox.requests.size());
    }

    @Test void aMessageThatOnlyTheFallbackRejectsWaitsForTheHook() {
        answer("/first", 503, "busy");
        answer("/second", 400, "bad");
        watched("notify webhook('@/first'), orElse: webhook('@/second')", "");
        assertEquals(sentence("both fail", "503 busy", "400 bad", "send"), pass().err());
        inbox.answers.clear();
        assertEquals("", pass().err());
        assertEquals(2, all("/first").size());
        assertEquals(0, waiting());
    }

    @Test void afterTheClockWasSetBackAMessageDoesNotWaitForTheOldTime() {
        answer("/hook", 500, "sorry");
        watched("notify webhook('@/hook')");
        pass();
        inbox.answers.clear();
        clock.add(Duration.ofDays(-400));
        pass();
        assertEquals(2, all("/hook").size());
    }

    @Test void pushoversUsedUpQuotaIsARejection() {
        String body = "{\"status\":0,\"errors\":[\"monthly limit\"]}";
        answer("/1/messages.json", 429, body);
        watched("notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), url: '@')", "");
        assertEquals(sentence("rejected", "pushover", "429 " + body), pass().err());
        assertEquals("", pass().err());
    }

    @Test void a200OfPushoverThatSaysNoIsARejection() {
        answer("/1/messages.json", 200, "{\"status\":0}");
        watched("notify pushover(token: 'a1'.multiply(15), user: 'u2'.multiply(15), url: '@')", "");
        assertEquals(sentence("rejected", "pushover", "200 {\"status\":0}"), pass().err());
    }

    @TestFactory Stream<DynamicTest> a200ThatSaysNoIsARejection() {
        return Stream.of("{\"ok\":false,\"error\":\"no chat\"}", "{\"ok\":false}")
            .map(no -> dynamicTest(no, () -> {
                String path = "/no" + no.hashCode();
                answer(path, 200, no);
                watched("notify webhook('@" + path + "')", "");
                assertEquals(sentence("rejected", "webhook", "200 " + no), pass().err());
                Files.delete(home.state().resolve("memory.json"));
            }));
    }

    /** It may be that of the network: a captive portal also answers requests that are not for it. */
    @Test void aPageIsNoAcceptanceAndIsFinalOnlyAfterAnHour() {
        answer("/hook", 200, "\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>");
        watched("notify webhook('@/hook')", "");
        assertEquals(sentence("waits", "webhook", "200 Sign in"), pass().err());
        clock.add(Duration.ofHours(1));
        assertEquals(sentence("rejected", "webhook", "200 Sign in"), pass().err());
    }

    @TestFactory Stream<DynamicTest> a200ThatSaysNothingOrYesIsAccepted() {
        return Stream.of("", "ok", "{\"ok\":true}", "<p>Congratulations!</p>", "[1]", "{\"id\":\"x\"}")
            .map(yes -> dynamicTest("'" + yes + "'", () -> {
                String path = "/yes" + yes.hashCode();
                answer(path, 200, yes);
                watched("notify webhook('@" + path + "')", "");
                assertEquals("", pass().err());
                Files.delete(home.state().resolve("memory.json"));
            }));
    }

    @Test void a204WithALengthIsAccepted() {
        try (Faults faults = new Faults()) {
            String url = faults.raw("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok");
            watched("notify webhook('" + url + "')", "");
            assertEquals("", pass().err());
        }
    }

    /** A reverse proxy answers 404 while the service behind it starts. */
    @Test void a404IsFinalOnlyAfterAnHour() {
        answer("/hook", 404, "no route");
        watched("notify webhook('@/hook')", "");
        for (int i = 0; i < 12; i++)
            assertEquals(sentence("waits", "webhook", "404 no route"), pass().err());
        assertEquals(sentence("rejected", "webhook", "404 no route"), pass().err());
        assertEquals("", pass().err());
        assertEquals(13, all("/hook").size());
    }

    @Test void a404ThatPassesLosesNoMessage() {
        answer("/hook", 404, "no route");
        watched("notify webhook('@/hook')", "");
        pass();
        inbox.answers.clear();
        assertEquals("", pass().err());
        assertEquals(List.of("plex is down", "plex is down"), inbox.titles("/hook"));
    }

    @Test void aRedirectIsNotFollowedAndSaysWhereItLeads() {
        inbox.answers.put("/hook", new MockResponse(301,
            okhttp3.Headers.of("Location", "https://new.example/hook"), "<html>Moved</html>"));
        watched("notify webhook('@/hook')", "");
        String redirects = "301 redirects to https://new.example/hook";
        assertEquals(sentence("waits", "webhook", redirects), pass().err());
        clock.add(Duration.ofHours(1)); // it may have been the login page of a network
        assertEquals(sentence("rejected", "webhook", redirects), pass().err());
    }

    @Test void aHookOfAnOwnAuthorityIsTrustedOnlyWithItsCertificate() throws InterruptedException {
        try (Faults faults = new Faults()) {
            MockWebServer ntfy = faults.tlsServer(new HandshakeCertificates.Builder()
                .heldCertificate(faults.serving("localhost")));
            String url = "https://localhost:" + ntfy.getPort();
            home.file("ca.pem", faults.authority.certificatePem());
            watched("notify ntfy(topic: 'home', url: '" + url.replace("//", "//me:p%40w@")
                    + "', trust: 'ca.pem')",
                "notify webhook('" + url + "/plain', trust: 'ca.pem')", "notify slack(url: '" + url + "/s')");
            String untrusted =
                "the certificate of localhost is not trusted; if you trust it, add: trust 'ca.pem'";
            assertEquals(sentence("waits", "slack", untrusted), pass().err());
            for (RecordedRequest each : List.of(ntfy.takeRequest(), ntfy.takeRequest()))
                assertEquals(path(each).equals("/") ? "Basic bWU6cEB3" : null, header(each, "Authorization"));
        }
    }

    @Test void userAndPasswordInTheUrlOfAHookAreUsed() {
        watched("notify webhook('" + inbox.url("/hook").replace("//", "//me:p%40w@") + "')",
            "notify webhook('@/plain')");
        pass();
        assertEquals("Basic bWU6cEB3", header(last("/hook"), "Authorization"));
        assertEquals(null, header(last("/plain"), "Authorization"));
    }

    @Test void ofAnIncidentThatIsOverOnlyItsEndIsDelivered() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        pass();
        clock.add(Duration.ofHours(1));
        inbox.answers.remove("/hook");
        pass();
        assertEquals("plex is healthy again", json(last("/hook")).get("title"));
        assertEquals(sentence("late", sentence("healed")), json(last("/hook")).get("text"));
    }

    @Test void theTitleOfWhatWaitedIsTheLatestNews() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "");
        pass();
        plex.start();
        pass();
        plex.stop();
        inbox.answers.clear();
        pass();
        assertEquals("plex comes and goes", json(last("/hook")).get("title"));
    }

    @Test void twoBlocksForOneAddressAreTwoHooks() {
        home.rules("""
            watch('a') { tcp '127.0.0.1:1'; attempts 1; notify webhook('@/h') { e -> [title: 'first'] } }
            watch('b') { tcp '127.0.0.1:1'; attempts 1; notify webhook('@/h') { e -> [title: 'second'] } }
            """.replace("@", inbox.url("")));
        pass();
        assertEquals(List.of("first", "second"), inbox.titles("/h").stream().sorted().toList());
    }

    @Test void aMessageOfAnIncidentThatIsStillOpenDoesNotExpire() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "");
        pass();
        clock.add(Duration.ofHours(72));
        inbox.answers.clear();
        assertEquals("", pass().err());
        assertEquals("plex is still down", json(last("/hook")).get("title"));
        String text = json(last("/hook")).get("text").toString();
        assertTrue(text.startsWith(sentence("late", "plex is down. ")), text);
    }

    /** Of each incident that is over one message waits, however long the hook is away. */
    @Test void aMessageOfAClosedIncidentWaitsUntilItsHookAcceptsIt() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "");
        for (int day = 0; day < 3; day++) {
            plex.stop();
            pass();
            plex.start();
            pass();
            clock.add(Duration.ofDays(1));
            assertEquals(sentence("waits", "webhook", "503"), pass().err());
        }
        assertEquals(3, home.watchdog("status").out().lines().filter(line ->
            line.endsWith(": plex is healthy again")).count());
        inbox.answers.clear();
        assertEquals("", pass().err());
        String text = json(last("/hook")).get("text").toString();
        assertEquals(3, text.lines().filter(line -> line.contains("plex is healthy again. ")).count(), text);
        assertEquals("", home.watchdog("--quiet").err());
    }

    @Test void aMessageMadeWhileTheClockWasWrongIsSentOnceItIsRight() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "");
        clock.add(Duration.ofDays(-20_000));
        pass();
        plex.start();
        pass();
        clock.add(Duration.ofMinutes(10));
        pass();
        clock.add(Duration.ofDays(20_000));
        inbox.answers.clear();
        assertEquals("", pass().err());
        assertEquals("plex is healthy again", json(last("/hook")).get("title"));
    }

    @Test void whatWaitsForAHookThatLeftTheRulesIsGivenToThePresentOnes() {
        answer("/old", 503, "");
        watched("notify webhook('@/old')", "");
        pass();
        watched("notify ntfy(topic: 't', url: '@/ntfy')\nnotify slack(url: '@/slack'), on: [healed]", "");
        assertEquals("", pass().err());
        assertEquals(List.of("plex is down"), inbox.titles("/ntfy/"));
        assertEquals(0, all("/slack").size(), "it wants another kind of message");
        assertEquals(0, waiting());
    }

    @Test void whatWaitsForABlockIsNotGivenToTheBlockOfAnotherWatch() throws IOException {
        String rules = "watch('a') { tcp '127.0.0.1:1'; attempts 1; notify { event -> %s } }\n";
        home.rules(rules.formatted("throw new IllegalStateException('away')"));
        assertEquals(sentence("waits", "closure", "away"), pass().err());
        String other = "watch('other') { command 'true'; notify { event -> new File('%s/other') << 'x' } }\n";
        home.rules(other.formatted(folder)
            + rules.formatted("new File('" + folder + "/own') << event.title"));
        assertEquals("", pass().err());
        assertEquals("a is down", read("own"));
        assertFalse(Files.exists(folder.resolve("other")));
    }

    @Test void aFallbackIsKeptWhenAnotherWatchNamesTheSameHookWithoutOne() {
        answer("/first", 500, "sorry");
        home.rules("""
            watch('a') { tcp '127.0.0.1:1'; attempts 1; notify webhook('@/first') }
            watch('b') { tcp '127.0.0.1:1'; attempts 1
                notify webhook('@/first'), orElse: webhook('@/second') }
            watch('c') { tcp '127.0.0.1:1'; attempts 1; notify webhook('@/first') }
            """.replace("@", inbox.url("")));
        pass();
        assertEquals(List.of("a is down, b is down and c is down"), inbox.titles("/second"));
    }

    @Test void aWatchThatIsRenamedInMidIncidentGoesOn() throws IOException {
        watched("notify webhook('@/hook')", "restart { run 'true' }");
        String rules = Files.readString(folder.resolve("rules.groovy"));
        pass();
        home.watchdog("pause", "plex");
        home.rules(rules.replace("watch('plex')", "watch('films')"));
        assertTrue(pass().out().startsWith("films  paused "));
        home.watchdog("resume", "films");
        plex.start();
        pass();
        assertEquals(List.of("plex is down", "plex is still down", "films is healthy again"),
            inbox.titles("/hook"));
        assertEquals(sentence("recovered").replace("15 min", "10 min"), json(last("/hook")).get("text"));
    }

    @Test void aWatchThatChecksSomethingElseIsNotTheOneThatLeftTheRules() throws IOException {
        watched("notify webhook('@/hook')", "restart { run 'true' }");
        String rules = Files.readString(folder.resolve("rules.groovy"));
        pass();
        home.rules(rules.replace("watch('plex')", "watch('films')").replace(plex.url(), plex.url() + "x"));
        pass();
        String text = json(all("/hook").get(2)).get("text").toString();
        assertTrue(text.contains("plex was removed from the rules while it was down"), text);
    }

    /** Somebody has repaired it: what happens then is new, and the limit counts from zero. */
    @Test void aRestartOnRequestThatHelpsEndsTheIncident() {
        watched("notify webhook('@/hook')", "limit 1\nrestart { run 'touch plex.up' }");
        for (int i = 0; i < 2; i++) {
            plex.stop();
            pass();
        }
        List<String> titles = inbox.titles("/hook");
        assertEquals("plex is still down; watchdog has stopped restarting it",
            titles.get(titles.size() - 1));
        inbox.requests.clear();
        assertEquals(0, home.watchdog("restart", "plex").exit());
        pass();
        plex.stop();
        pass();
        assertEquals(List.of("plex is healthy again", "plex is down", "plex is healthy again"),
            inbox.titles("/hook"));
        String text = json(inbox.requests.get(0)).get("text").toString();
        assertTrue(text.contains("Restarted on request: ran 'touch plex.up'. Healthy "), text);
    }

    @Test void withoutAHookAMessageWaitsForOne() {
        answer("/hook", 503, "");
        watched("notify webhook('@/hook')", "");
        pass();
        watched("", "");
        assertEquals("", pass().err());
        assertEquals(1, waiting());
        watched("notify webhook('@/new')");
        pass();
        assertEquals(List.of("plex is down"), inbox.titles("/new"));
    }

    @Test void aHookThatHangsFailsOrThrowsStopsNeitherTheRestartNorAnother() throws IOException {
        script("hang", "echo hangs >> order; exec sleep 30");
        script("heal", """
            while ! grep -q hangs order; do sleep 0.05; done
            echo heals >> order
            touch plex.up
            """);
        watched("""
            notify command('tests/hang')
            notify command('/bin/false')
            notify command('no/such/program')
            notify { event -> throw new IllegalStateException('oops') }
            notify { event -> assert event.title == 'never' }
            notify webhook('http://127.0.0.1:1/')
            notify webhook('@/good')
            """, "restart { run 'tests/heal' }");
        Run run = pass();
        assertEquals(0, run.exit());
        assertTrue(run.out().startsWith("plex  healed "), run.out());
        assertEquals(List.of("hangs", "heals"), Files.readAllLines(folder.resolve("order")).subList(0, 2),
            "the hook began, and the restart did not wait for its end");
        assertEquals(List.of("plex is down", "plex is healthy again"), inbox.titles("/good"));
        assertSays(run, sentence("hangs"));
        assertSays(run, sentence("waits", "command false", "exit code 1"));
        assertSays(run, sentence("waits", "command program", folder + "/no/such/program does not exist"));
        assertSays(run, sentence("waits", "closure", "oops"));
        assertSays(run, sentence("waits", "webhook", "connection refused by 127.0.0.1:1"));
    }

    @Test void afterItsDeadlineAPassStillWaitsForAHookAndSaysWhichIsBusy() {
        inbox.answers.put("/slow", new MockResponse.Builder().body("{}")
            .headersDelay(3500, java.util.concurrent.TimeUnit.MILLISECONDS).build());
        home.rules("""
            deadline 3.seconds
            notify webhook('@/slow')
            notify command('sh -c "sleep 3.5; touch told"')
            notify { event -> Thread.sleep(20_000) }
            watch('plex') { command 'test -e up'; attempts 1 }
            """.replace("@", inbox.url("")));
        Run run = pass();
        assertSays(run, sentence("busy"));
        assertEquals(0, waiting(), "the webhook answered after the deadline");
        assertTrue(Files.exists(folder.resolve("told")), "the command ended after the deadline");
    }

    // ---- the rest ---------------------------------------------------------------------------------------

    @Test void theHeartbeatComesAtTheEndAndItsFailureChangesNothing() throws IOException {
        home.rules("""
            heartbeat '%s'
            notify webhook('%s')
            watch('plex') { url '%s'; attempts 1; restart { run 'touch plex.up' } }
            """.formatted(inbox.url("/ping"), inbox.url("/hook"), plex.url()));
        assertEquals(0, pass().exit());
        assertEquals("GET", last("/ping").getMethod());
        answer("/ping", 404, "");
        Run run = pass();
        assertEquals(0, run.exit());
        assertEquals(sentence("heartbeat"), run.err());
    }

    @Test void aStrangeAnswerToTheHeartbeatDoesNotHoldThePass() throws IOException {
        home.rules("""
            heartbeat '%s'
            watch('plex') { command 'true' }
            """.formatted(inbox.url("/ping")));
        answer("/ping", 200, "<" + "title>".repeat(170_000));
        assertEquals(0, assertTimeoutPreemptively(Duration.ofSeconds(9), this::pass).exit());
    }

    @Test void rulesThatDoNotCompileAreOneMessageAndTheLastGoodOnesStillWatch() throws IOException {
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        String good = Files.readString(folder.resolve("rules.groovy"));
        pass();
        inbox.requests.clear();
        home.rules(good.replace("restart", "restrat"));
        plex.stop();
        Run run = pass();
        assertEquals(2, run.exit());
        assertTrue(run.out().startsWith("plex  healed "), run.out());
        assertTrue(run.err().contains("did you mean 'restart'?"), run.err());
        assertTrue(run.err().endsWith(sentence("broken rules")), run.err());
        for (int i = 0; i < 3; i++) assertEquals(2, pass().exit());
        assertEquals(1, messagesAboutMistakes());
        home.rules(good);
        assertEquals(0, pass().exit());
        home.rules(good.replace("restart", "restrat"));
        assertEquals(2, pass().exit());
        assertEquals(2, messagesAboutMistakes(), "again, since they were good again");
    }

    @Test void aHookThatStandsTwiceHearsWhatEitherPlaceWants() {
        home.rules("""
            notify webhook('@/hook')
            watch('plex') { tcp '127.0.0.1:1'; notify webhook('@/hook'), on: [gave_up] }
            """.replace("@", inbox.url("")));
        pass();
        home.rules("watch {");
        pass();
        assertEquals(1, messagesAboutMistakes());
    }

    private long messagesAboutMistakes() {
        return inbox.requests.stream()
            .filter(request -> json(request).toString().contains("rules.groovy has mistakes")).count();
    }

    @Test void tellTriesEachHookAndPrintsItsResult() {
        answer("/rejects", 401, "bad token");
        home.rules("""
            notify webhook('@/top')
            watch('plex') {
                tcp '127.0.0.1:1'
                notify webhook('@/rejects'), on: [healed], orElse: command('tests/hear')
            }
            watch('other') { tcp '127.0.0.1:1' }
            """.replace("@", inbox.url("")));
        assertEquals(new Run(1, sentence("tell"), ""), home.watchdog("tell"));
        assertEquals(new Run(0, "webhook: accepted\n", ""), home.watchdog("tell", "other"));
        assertEquals(List.of("test from watchdog", "test from watchdog"), inbox.titles("/top"));
        assertEquals(2, home.watchdog("tell", "nobody").exit());
    }

    // ---- helpers ----------------------------------------------------------------------------------------

    /** One pass, five minutes later. */
    private Run pass() {
        Run run = home.watchdog();
        clock.add(Duration.ofMinutes(5));
        return run;
    }

    /** The restart helps only when the first message has gone, or both could be one message. */
    private void whenTold(BooleanSupplier told) { plex.ready = told; }

    /** Plex with these lines; `@` stands for the address of the inbox. */
    private void watched(String... lines) {
        boolean heals = String.join("", lines).contains("plex.up");
        home.rules("""
            watch('plex') {
                url '%s'
                attempts 1
                within %s
                healthy { status == 200 }
            %s
            }
            """.formatted(plex.url(), heals ? "30.seconds" : "200.milliseconds",
            String.join("\n", lines).replace("'@", "'" + inbox.url(""))));
    }

    private void script(String name, String text) throws IOException {
        Files.createDirectories(folder.resolve("tests"));
        Path script = Files.writeString(folder.resolve("tests").resolve(name), "#!/bin/sh\n" + text + "\n");
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private static void assertSays(Run run, String sentence) {
        assertTrue(run.err().contains(sentence), () -> sentence + " is not in\n" + run.err());
    }

    private void answer(String path, int code, String body) {
        inbox.answers.put(path, new MockResponse(code, okhttp3.Headers.of(), body));
    }

    private List<RecordedRequest> all(String path) {
        return inbox.requests.stream().filter(request -> path(request).equals(path)).toList();
    }

    private RecordedRequest last(String path) {
        List<RecordedRequest> all = all(path);
        return all.get(all.size() - 1);
    }

    private static String path(RecordedRequest request) { return request.getUrl().encodedPath(); }

    private static String header(RecordedRequest request, String name) {
        return request.getHeaders().get(name);
    }

    private String read(String file) throws IOException { return Files.readString(folder.resolve(file)); }

    private static Map<?, ?> json(RecordedRequest request) {
        return (Map<?, ?>) new JsonSlurper().parseText(request.getBody().string(StandardCharsets.UTF_8));
    }

    /** Accepts every message, unless another answer is set for its path. */
    private static final class Inbox extends Dispatcher {
        final MockWebServer server = new MockWebServer();
        final List<RecordedRequest> requests = new CopyOnWriteArrayList<>();
        final Map<String, MockResponse> answers = new ConcurrentHashMap<>();

        Inbox() { server.setDispatcher(this); }

        @Override public MockResponse dispatch(RecordedRequest request) {
            requests.add(request);
            return answers.getOrDefault(path(request),
                new MockResponse(200, okhttp3.Headers.of(), "{\"status\":1}"));
        }

        String url(String path) { return "http://127.0.0.1:" + server.getPort() + path; }

        List<String> titles(String path) {
            return requests.stream().filter(request -> path(request).equals(path))
                .map(request -> (String) json(request).get("title")).toList();
        }
    }
}
