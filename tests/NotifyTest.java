import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import mockwebserver3.Dispatcher;
import mockwebserver3.MockResponse;
import mockwebserver3.MockWebServer;
import mockwebserver3.RecordedRequest;
import mockwebserver3.SocketEffect;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Who is told what, in which shape, and what becomes of a message that is not taken. */
class NotifyTest {
    private static final TimeZone ZONE = TimeZone.getDefault();
    private static final String WELL = "Ran 'touch plex.up'. It was down for 0 ms: expected status == 200, but status was 530.";

    @TempDir Path folder;
    private final Inbox inbox = new Inbox();
    private Run.HandClock clock;
    private Run.Desk desk;
    private Service plex;

    @BeforeAll static void timesArePrintedInUtc() { TimeZone.setDefault(TimeZone.getTimeZone("UTC")); }

    @AfterAll static void zone() { TimeZone.setDefault(ZONE); }

    @BeforeEach void open() throws IOException {
        inbox.server.start();
        clock = new Run.HandClock(Instant.parse("2026-03-01T08:00:00Z"));
        desk = new Run.Desk(folder);
        desk.clock = clock;
        plex = new Service(folder, "plex");
        script("hear", "printf '%s\\n' \"$1\" >> heard");
        script("tell-all", "for v in EVENT WATCH TITLE TEXT AT SINCE; do eval \"printf '%s=%s\\n' $v \\\"\\$WATCHDOG_$v\\\"\" >> variables; done; printf '%s' \"$2\" > last");
    }

    @AfterEach void close() {
        plex.close();
        inbox.server.close();
    }

    // ---- on the wire ----------------------------------------------------------------------------------------------

    @Test void eachServiceGetsItsOwnPathHeadersAndJson() {
        watched("""
            notify pushover(token: 'app', user: 'me', priority: 1, sound: 'siren', device: 'phone', url: '@/pushover')
            notify ntfy(topic: 'home', token: 'tk_1', priority: 4, tags: ['house'], url: '@/ntfy/')
            notify slack(url: '@/slack/T0/B0')
            notify discord(url: '@/discord/1')
            notify telegram(token: '12:ab', chat: '-100', url: '@/telegram')
            notify webhook('@/plain')
            notify webhook('@/own', headers: ['X-Key': 'k 1']) { event -> [says: event.title, of: event.watch, was: event.kind.name()] }
            """, "restart { run 'touch plex.up' }");
        assertEquals(0, pass().exit());
        String down = "expected status == 200, but status was 530. Restarting it: run 'touch plex.up'.";
        Map<String, Object> first = new LinkedHashMap<>();
        for (RecordedRequest request : inbox.requests) first.putIfAbsent(request.getUrl().encodedPath(), json(request));
        assertEquals(Map.of("token", "app", "user", "me", "title", "plex is down", "message", down, "timestamp", 1772352000, "priority", 1,
            "sound", "siren", "device", "phone"), first.get("/pushover/1/messages.json"));
        assertEquals(Map.of("topic", "home", "title", "plex is down", "message", down, "priority", 4, "tags", List.of("house")), first.get("/ntfy/"));
        assertEquals(Map.of("text", "plex is down\n" + down), first.get("/slack/T0/B0"));
        assertEquals(Map.of("content", "plex is down\n" + down, "allowed_mentions", Map.of("parse", List.of())), first.get("/discord/1"));
        assertEquals(Map.of("chat_id", "-100", "text", "plex is down\n" + down), first.get("/telegram/bot12:ab/sendMessage"));
        assertEquals(Map.of("kind", "down", "watch", "plex", "title", "plex is down", "text", down, "at", "2026-03-01T08:00:00Z",
            "since", "2026-03-01T08:00:00Z"), first.get("/plain"));
        assertEquals(Map.of("says", "plex is down", "of", "plex", "was", "down"), first.get("/own"));
        assertEquals(7, first.size());
        assertEquals(14, inbox.requests.size(), "down and healed for each");
        for (RecordedRequest request : inbox.requests) {
            assertEquals("POST", request.getMethod());
            assertTrue(request.getHeaders().get("Content-Type").startsWith("application/json"));
            assertEquals("/ntfy/".equals(request.getUrl().encodedPath()) ? "Bearer tk_1" : null, request.getHeaders().get("Authorization"));
            assertEquals("/own".equals(request.getUrl().encodedPath()) ? "k 1" : null, request.getHeaders().get("X-Key"));
        }
        assertEquals(WELL, ((Map<?, ?>) json(last("/plain"))).get("text"));
    }

    @Test void aCommandGetsTheMessageAsItsLastArgumentAndInVariables() throws IOException {
        watched("notify command('tests/tell-all first')", "restart { run 'touch plex.up' }");
        pass();
        assertEquals("plex is healthy again: " + WELL, Files.readString(folder.resolve("last")));
        assertEquals("""
            EVENT=down
            WATCH=plex
            TITLE=plex is down
            TEXT=expected status == 200, but status was 530. Restarting it: run 'touch plex.up'.
            AT=2026-03-01T08:00:00Z
            SINCE=2026-03-01T08:00:00Z
            EVENT=healed
            WATCH=plex
            TITLE=plex is healthy again
            TEXT=%s
            AT=2026-03-01T08:00:00Z
            SINCE=2026-03-01T08:00:00Z
            """.formatted(WELL), Files.readString(folder.resolve("variables")));
    }

    @Test void aClosureGetsTheEvent() throws IOException {
        watched("notify { event -> new File('" + folder + "/closure').append(\"$event.kind $event.watch $event.title|$event.text|$event.at $event.since\\n\") }",
            "restart { run 'touch plex.up' }");
        pass();
        assertEquals("down plex plex is down|expected status == 200, but status was 530. Restarting it: run 'touch plex.up'.|2026-03-01T08:00:00Z 2026-03-01T08:00:00Z",
            Files.readAllLines(folder.resolve("closure")).get(0));
    }

    @Test void whatAServerSaysStaysDataOnItsWayToAPhone() throws IOException {
        plex.body = "'; touch PWNED; '$(touch PWNED)`touch PWNED` \u001b[31mred\u0007 \u202eback\r\n\"quoted\" \\ <b>&";
        desk.rules("""
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
        assertEquals(said, ((Map<?, ?>) json(last("/plain"))).get("title") + ": " + ((Map<?, ?>) json(last("/plain"))).get("text"));
    }

    @Test void aTextThatIsLongerThanAServiceTakesIsCutWithAnEllipsis() {
        StringBuilder needs = new StringBuilder();
        for (int i = 0; i < 40; i++) needs.append("watch('w%02d %s') { tcp '127.0.0.1:1'; attempts 1 }\n".formatted(i, "é".repeat(50)));
        desk.rules("""
            notify pushover(token: 'a', user: 'u', url: '@/pushover')
            notify ntfy(topic: 't', url: '@/ntfy')
            notify slack(url: '@/slack')
            notify discord(url: '@/discord')
            notify telegram(token: 't', chat: 'c', url: '@/telegram')
            """.replace("@", inbox.url("")) + needs);
        assertEquals(1, pass().exit());
        Map.of("/pushover/1/messages.json", Map.of("title", 250, "message", 1024), "/ntfy/", Map.of("title", 250, "message", 1300), "/slack", Map.of("text", 3000),
            "/discord", Map.of("content", 2000), "/telegram/bott/sendMessage", Map.of("text", 4096)).forEach((path, fields) -> fields.forEach((field, most) -> {
                String text = (String) ((Map<?, ?>) json(last(path))).get(field);
                assertTrue(text.length() <= most && text.length() > most - 3, path + " " + field + ": " + text.length());
                assertTrue(text.endsWith("…"), path);
            }));
        String message = (String) ((Map<?, ?>) json(last("/ntfy/"))).get("message");
        assertTrue(message.getBytes(StandardCharsets.UTF_8).length <= 4096, "ntfy takes 4096 bytes");
    }

    @Test void slackIsToldWithoutMarkup() {
        plex.body = "<!channel> & <http://evil|click>";
        desk.rules("watch('plex') { url '%s'; attempts 1; healthy { body == 'ok' }; notify slack(url: '%s') }".formatted(plex.url(), inbox.url("/slack")));
        pass();
        String text = (String) ((Map<?, ?>) json(last("/slack"))).get("text");
        assertTrue(text.contains("&lt;!channel&gt; &amp; &lt;http://evil|click&gt;"), text);
    }

    // ---- who is told ----------------------------------------------------------------------------------------------

    @Test void onPicksKindsAndHooksAtTheTopAreForEveryWatch() {
        desk.rules("""
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
        pass();
        assertEquals(List.of("other and plex are down", "plex is healthy again"), sorted(inbox.titles("/all")));
        assertEquals(List.of("plex is healthy again"), inbox.titles("/good"));
        assertEquals(List.of("plex is down"), inbox.titles("/bad"));
    }

    private static List<String> sorted(List<String> titles) {
        return titles.stream().map(title -> title.equals("plex and other are down") ? "other and plex are down" : title).toList();
    }

    @Test void oneHookNamedTwiceIsToldOnce() {
        watched("notify webhook('@/hook')\nnotify webhook('@/hook')", "");
        pass();
        assertEquals(List.of("plex is down"), inbox.titles("/hook"));
    }

    @Test void orElseIsForWhenTheFirstDoesNotTakeIt() {
        inbox.answers.put("/first", new MockResponse(500, okhttp3.Headers.of(), "sorry"));
        watched("notify webhook('@/first'), orElse: webhook('@/second')", "");
        Run run = pass();
        assertEquals(List.of("plex is down"), inbox.titles("/second"));
        assertEquals("watchdog: webhook did not take the message: 500 sorry; webhook took it instead\n", run.err());
        assertEquals(1, run.exit());
        pass();
        assertEquals(1, inbox.titles("/second").size(), "and it is done with");
    }

    @Test void threeWatchesThatGoDownTogetherAreOneMessageToEachHook() {
        desk.rules("notify webhook('@/one')\nnotify webhook('@/two')\n".replace("@", inbox.url(""))
            + "for (name in ['a', 'b', 'c']) { watch(name) { tcp '127.0.0.1:1'; attempts 1 } }\n");
        pass();
        assertEquals(List.of("a, b and c are down"), inbox.titles("/one"));
        assertEquals(List.of("a, b and c are down"), inbox.titles("/two"));
        pass();
        assertEquals(2, inbox.requests.size(), "no message each five minutes");
    }

    @Test void threeNamesBehindOneTunnelAreOneRestartAndOneStory() {
        desk.rules("""
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
        Run run = pass();
        assertEquals(0, run.exit());
        assertEquals(1, plex.restarts());
        assertEquals(List.of("web, films and mail are down", "web, films and mail are healthy again"), inbox.titles("/hook"));
        assertEquals(3, run.out().lines().filter(line -> line.matches("\\w+ +healed .*")).count(), run.out());
    }

    @Test void aRuleThatNoRestartHelpsIsCalledSuspiciousWithWhatTheServerSays() {
        plex.status = 401;
        plex.body = "<h1>Unauthorized</h1>";
        watched("notify webhook('@/hook')", "limit 3, per: 1.hour\nrestart { run 'true' }");
        for (int i = 0; i < 8; i++) pass();
        assertEquals(List.of("plex is down", "plex is still down", "plex is down and is not restarted any more"), inbox.titles("/hook"));
        assertEquals("The budget of 3 restarts per 1 h is spent; it is tried again when the budget allows. Down for 15 min: expected status == 200, but status was 401. "
            + "The answer never changed, so perhaps the rule is wrong and not the service. It begins: 401 <h1>Unauthorized</h1>",
            ((Map<?, ?>) json(last("/hook"))).get("text"));
    }

    // ---- a message that is not taken ------------------------------------------------------------------------------

    @Test void aMessageThatIsRefusedIsSaidOnceAndNeverSentAgain() {
        List<Integer> codes = List.of(400, 401, 403, 404, 410, 413, 422);
        for (int code : codes) inbox.answers.put("/" + code, new MockResponse(code, okhttp3.Headers.of(), "no such token"));
        watchedEach(codes);
        Run run = pass();
        assertEquals(1, run.exit());
        for (int code : codes)
            assertTrue(run.err().contains("watchdog: webhook refused the message: " + code + " no such token; it is not sent again\n"), run.err());
        assertEquals("", pass().err());
        for (int code : codes) assertEquals(1, inbox.titles("/" + code).size());
    }

    @Test void aMessageThatMeetsTroubleWaitsAndIsSentInALaterPassWithItsTime() {
        List<Integer> codes = List.of(500, 502, 503, 599, 408, 0);
        for (int code : codes) inbox.answers.put("/" + code, code > 0 ? new MockResponse(code, okhttp3.Headers.of(), "busy")
            : new MockResponse.Builder().onResponseStart(new SocketEffect.CloseSocket()).build());
        watchedEach(codes);
        Run run = pass();
        assertEquals(1, run.exit());
        assertEquals(codes.size(), run.err().lines().filter(line -> line.matches("watchdog: webhook did not take the message: .*; it waits for the next pass")).count(), run.err());
        assertEquals(codes.size(), desk.watchdog("status").out().lines().filter(line -> line.startsWith("waiting for webhook since 2026-03-01 08:00: w")).count());
        inbox.answers.clear();
        inbox.requests.clear();
        clock.pass(Duration.ofMinutes(10));
        assertEquals("", pass().err());
        for (int code : codes) {
            Map<?, ?> late = (Map<?, ?>) json(last("/" + code));
            assertEquals("w" + code + " is down", late.get("title"));
            assertEquals("2026-03-01T08:00:00Z", late.get("at"));
            assertTrue(late.get("text").toString().endsWith(" (This was at 2026-03-01 08:00; it could not be sent before.)"), late.toString());
        }
        pass();
        assertEquals(codes.size(), inbox.requests.size(), "and each only once");
    }

    /** A watch that is down for each, with a hook of its own. */
    private void watchedEach(List<Integer> codes) {
        desk.rules("for (code in " + codes + ") { watch(\"w$code\") { tcp '127.0.0.1:1'; attempts 1; notify webhook(\"" + inbox.url("/") + "$code\") } }\n");
    }

    @Test void aHookThatFailsIsTriedOnceAPass() {
        inbox.answers.put("/hook", new MockResponse(500, okhttp3.Headers.of(), "sorry"));
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        Run run = pass();
        assertEquals("watchdog: webhook did not take the message: 500 sorry; it waits for the next pass\n", run.err());
        assertEquals(0, run.exit());
        assertEquals(1, inbox.titles("/hook").size());
        pass();
        assertEquals(2, inbox.titles("/hook").size());
    }

    @Test void aServiceThatAsksForAPauseGetsItAndThenAllOfItInOrder() {
        inbox.answers.put("/hook", new MockResponse(429, okhttp3.Headers.of("Retry-After", "1200"), "slow down"));
        watched("notify webhook('@/hook')", "restart { run 'true' }");
        pass();
        inbox.answers.remove("/hook");
        for (int i = 0; i < 3; i++) pass(); // 5, 10 and 15 minutes later
        assertEquals(1, inbox.titles("/hook").size(), "what came later waits with it");
        pass();
        assertEquals("plex is down and is not restarted any more", inbox.titles("/hook").get(1));
        List<String> told = ((Map<?, ?>) json(last("/hook"))).get("text").toString().lines().map(line -> line.replaceFirst("\\. .*", "")).toList();
        assertEquals(List.of("2026-03-01 08:00 plex is down", "2026-03-01 08:00 plex is still down",
            "2026-03-01 08:15 plex is down and is not restarted any more"), told);
    }

    @Test void discordAndTelegramAskForTheirPauseInTheBody() {
        inbox.answers.put("/discord", new MockResponse(429, okhttp3.Headers.of(), "{\"message\":\"You are being rate limited.\",\"retry_after\": 650.57}"));
        watched("notify discord(url: '@/discord')", "");
        pass();
        pass();
        pass();
        assertEquals(1, inbox.requests.size());
        pass();
        assertEquals(2, inbox.requests.size());
    }

    @Test void pushoversUsedUpQuotaIsARefusal() {
        inbox.answers.put("/1/messages.json", new MockResponse(429, okhttp3.Headers.of(), "{\"status\":0,\"errors\":[\"monthly limit\"]}"));
        watched("notify pushover(token: 'a', user: 'u', url: '@')", "");
        assertTrue(pass().err().contains("pushover refused the message: 429 "));
        assertEquals("", pass().err());
    }

    @Test void a200OfPushoverThatSaysNoIsARefusal() {
        inbox.answers.put("/1/messages.json", new MockResponse(200, okhttp3.Headers.of(), "{\"status\":0}"));
        watched("notify pushover(token: 'a', user: 'u', url: '@')", "");
        assertEquals("watchdog: pushover refused the message: 200 {\"status\":0}; it is not sent again\n", pass().err());
    }

    @Test void ofAStoryThatIsOverOnlyItsEndIsDelivered() {
        inbox.answers.put("/hook", new MockResponse(503, okhttp3.Headers.of(), ""));
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        pass();
        clock.pass(Duration.ofHours(1));
        inbox.answers.remove("/hook");
        pass();
        Map<?, ?> late = (Map<?, ?>) json(last("/hook"));
        assertEquals("plex is healthy again", late.get("title"));
        assertEquals(WELL + " (This was at 2026-03-01 08:00; it could not be sent before.)", late.get("text"));
    }

    @Test void aMessageThatCouldNotBeDeliveredForADayIsDroppedAndThatIsSaid() {
        inbox.answers.put("/hook", new MockResponse(503, okhttp3.Headers.of(), ""));
        watched("notify webhook('@/hook')", "");
        pass();
        clock.pass(Duration.ofHours(25));
        assertEquals("watchdog: webhook: dropped 1 message that could not be delivered in time: plex is down\n", pass().err());
        assertEquals("", pass().err());
        assertEquals(1, inbox.titles("/hook").size());
    }

    @Test void aHookThatLeftTheRulesTakesItsMessagesWithItAndThatIsSaid() {
        inbox.answers.put("/hook", new MockResponse(503, okhttp3.Headers.of(), ""));
        watched("notify webhook('@/hook')", "");
        pass();
        watched("", "");
        assertEquals("watchdog: webhook is no longer in the rules: dropped 1 message\n", pass().err());
        assertEquals("", pass().err());
    }

    @Test void aHookThatHangsFailsOrThrowsStopsNeitherTheRestartNorAnother() throws IOException {
        script("hang", "echo hangs >> order; exec sleep 30");
        script("heal", "while ! grep -q hangs order; do sleep 0.05; done; echo heals >> order; touch plex.up");
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
        assertEquals(List.of("hangs", "heals"), Files.readAllLines(folder.resolve("order")).subList(0, 2), "the hook began, and the restart did not wait for its end");
        assertEquals(List.of("plex is down", "plex is healthy again"), inbox.titles("/good"));
        for (String said : List.of("Restarting it: run 'tests/heal'.\"' did not end within 10 s and was killed; it waits for the next pass",
                "command did not take the message: exit code 1; it waits", "command did not take the message: " + folder + "/no/such/program does not exist; it waits",
                "closure did not take the message: oops; it waits", "webhook did not take the message: connection refused by 127.0.0.1; it waits"))
            assertTrue(run.err().contains(said), said + " is not in\n" + run.err());
    }

    // ---- the rest -------------------------------------------------------------------------------------------------

    @Test void theHeartbeatComesAtTheEndAndItsFailureChangesNothing() throws IOException {
        desk.rules("heartbeat '%s'\nnotify webhook('%s')\nwatch('plex') { url '%s'; attempts 1; restart { run 'touch plex.up' } }"
            .formatted(inbox.url("/ping"), inbox.url("/hook"), plex.url()));
        assertEquals(new Run(0, "", ""), new Run(pass().exit(), "", ""));
        assertEquals("GET", last("/ping").getMethod());
        inbox.answers.put("/ping", new MockResponse(404, okhttp3.Headers.of(), ""));
        Run run = pass();
        assertEquals(0, run.exit());
        assertEquals("watchdog: heartbeat: 127.0.0.1 answered 404\n", run.err());
    }

    @Test void rulesThatDoNotCompileAreToldOnceAndTheLastGoodOnesStillWatch() throws IOException {
        watched("notify webhook('@/hook')", "restart { run 'touch plex.up' }");
        String good = Files.readString(folder.resolve("rules.groovy"));
        pass();
        inbox.requests.clear();
        desk.rules(good.replace("restart", "restrat"));
        plex.stop();
        Run run = pass();
        assertEquals(2, run.exit());
        assertTrue(run.out().startsWith("plex  healed "), run.out());
        assertTrue(run.err().contains("did you mean 'restart'?"), run.err());
        assertTrue(run.err().endsWith("watchdog: these rules cannot be used, so the last good ones still watch\n"), run.err());
        for (int i = 0; i < 3; i++) assertEquals(2, pass().exit());
        assertEquals(1, inbox.requests.stream().filter(request -> json(request).toString().contains("rules.groovy has mistakes")).count());
        desk.rules(good);
        assertEquals(0, pass().exit());
        desk.rules(good.replace("restart", "restrat"));
        assertEquals(2, pass().exit());
        assertEquals(2, inbox.requests.stream().filter(request -> json(request).toString().contains("rules.groovy has mistakes")).count(), "again, since they were good again");
    }

    @Test void tellTriesEachHookAndSaysWhatBecameOfIt() {
        inbox.answers.put("/refuses", new MockResponse(401, okhttp3.Headers.of(), "bad token"));
        desk.rules("""
            notify webhook('@/top')
            watch('plex') { tcp '127.0.0.1:1'; notify webhook('@/refuses'), on: [healed], orElse: command('tests/hear') }
            watch('other') { tcp '127.0.0.1:1' }
            """.replace("@", inbox.url("")));
        assertEquals(new Run(1, "webhook: taken\nwebhook: 401 bad token\ncommand: taken\n", ""), desk.watchdog("tell"));
        assertEquals(new Run(0, "webhook: taken\n", ""), desk.watchdog("tell", "other"));
        assertEquals(List.of("test from watchdog", "test from watchdog"), inbox.titles("/top"));
        assertEquals(2, desk.watchdog("tell", "nobody").exit());
    }

    // ---- helpers --------------------------------------------------------------------------------------------------

    /** One pass, five minutes later. */
    private Run pass() {
        Run run = desk.watchdog();
        clock.pass(Duration.ofMinutes(5));
        return run;
    }

    /** Plex with these lines; `@` stands for the address of the inbox. */
    private void watched(String... lines) {
        desk.rules("""
            watch('plex') {
                url '%s'
                attempts 1
                within 200.milliseconds
                healthy { status == 200 }
            %s
            }
            """.formatted(plex.url(), String.join("\n", lines).replace("'@", "'" + inbox.url(""))));
    }

    private void script(String name, String text) throws IOException {
        Files.createDirectories(folder.resolve("tests"));
        Path script = Files.writeString(folder.resolve("tests").resolve(name), "#!/bin/sh\n" + text + "\n");
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private RecordedRequest last(String path) {
        List<RecordedRequest> all = inbox.requests.stream().filter(request -> request.getUrl().encodedPath().equals(path)).toList();
        return all.get(all.size() - 1);
    }

    private static Object json(RecordedRequest request) { return new JsonSlurper().parseText(request.getBody().string(StandardCharsets.UTF_8)); }

    /** Takes every message, unless it was told another answer for its path. */
    private static final class Inbox extends Dispatcher {
        final MockWebServer server = new MockWebServer();
        final List<RecordedRequest> requests = new CopyOnWriteArrayList<>();
        final Map<String, MockResponse> answers = new ConcurrentHashMap<>();

        Inbox() { server.setDispatcher(this); }

        @Override public MockResponse dispatch(RecordedRequest request) {
            requests.add(request);
            return answers.getOrDefault(request.getUrl().encodedPath(), new MockResponse(200, okhttp3.Headers.of(), "{\"status\":1}"));
        }

        String url(String path) { return "http://127.0.0.1:" + server.getPort() + path; }

        List<String> titles(String path) {
            List<String> titles = new ArrayList<>();
            for (RecordedRequest request : requests)
                if (request.getUrl().encodedPath().equals(path)) titles.add((String) ((Map<?, ?>) json(request)).get("title"));
            return titles;
        }
    }
}
