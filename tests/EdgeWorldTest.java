import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The other tests believe what EdgeWorld shows them; these see to it that it shows the truth. */
class EdgeWorldTest {
    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private EdgeWorld world;

    @AfterEach
    void endTheWorld() {
        if (world != null) world.close();
    }

    @Test
    void withoutADaemonTheEdgeAnswers530With1033() throws Exception {
        world = EdgeWorld.open(EdgeWorld.Kind.SCRIPT);
        assertNoTunnel();
        assertFalse(world.connected());
        assertEquals(1, world.requests());
    }

    @ParameterizedTest
    @EnumSource
    void withADaemonThePagesOfPlexComeThrough(EdgeWorld.Kind kind) throws Exception {
        connect(kind);
        HttpResponse<String> page = get("/");
        assertEquals(401, page.statusCode());
        assertTrue(page.body().contains("<h1>401 Unauthorized</h1>"), page.body());
        assertEquals("1.0", page.headers().firstValue("X-Plex-Protocol").orElse(""));
        HttpResponse<String> identity = get("/identity");
        assertEquals(200, identity.statusCode());
        assertEquals("text/xml", identity.headers().firstValue("Content-Type").orElse(""));
        assertTrue(identity.body().contains("machineIdentifier=\"0123abcd\""), identity.body());
    }

    @ParameterizedTest
    @EnumSource
    void theProcessTableShowsTheDaemonAsItsKindSays(EdgeWorld.Kind kind) {
        ProcessHandle.Info info = ProcessHandle.of(connect(kind)).orElseThrow().info();
        String daemon = world.bin().resolve("cloudflared").toString();
        if (kind == EdgeWorld.Kind.NATIVE) {
            assertEquals(daemon, info.command().orElseThrow());
            assertEquals(List.of("tunnel", "run"), List.of(info.arguments().orElseThrow()));
        } else {
            assertTrue(info.command().orElseThrow().endsWith("/perl"), info.toString());
            assertEquals(List.of(daemon, "tunnel", "run"), List.of(info.arguments().orElseThrow()));
        }
    }

    @ParameterizedTest
    @EnumSource
    void sigtermEndsADaemonThatIsWell(EdgeWorld.Kind kind) throws Exception {
        long pid = connect(kind);
        ProcessHandle.of(pid).orElseThrow().destroy();
        EdgeWorld.await("the daemon to be gone", () -> world.daemons().isEmpty() && !world.connected());
        assertNoTunnel();
        assertTrue(world.log().contains("INF Initiating graceful shutdown"), world.log());
    }

    @ParameterizedTest
    @EnumSource
    void aHungDaemonAnswersNothingAndIgnoresSigtermButNotSigkill(EdgeWorld.Kind kind) throws Exception {
        long pid = connect(kind);
        world.hang();
        assertNoTunnel();
        ProcessHandle.of(pid).orElseThrow().destroy();
        assertNoTunnel();   // by now the signal has arrived
        assertEquals(List.of(pid), world.daemons());
        world.killDaemons();
        assertEquals(List.of(), world.daemons());
    }

    @Test
    void aDaemonStartedAfterTheHungOneIsWell() throws Exception {
        connect(EdgeWorld.Kind.SCRIPT);
        world.hang();
        world.killDaemons();
        world.startDaemon();
        EdgeWorld.await("only the new daemon to be connected", () -> {
            world.awaitConnected();
            return get("/identity").statusCode() == 200;
        });
    }

    @Test
    void ofTwoDaemonsTheHungOneFailsSomeRequestsAndTheOtherAnswersSome() {
        connect(EdgeWorld.Kind.SCRIPT);
        world.hang();
        world.startDaemon();
        world.awaitConnected();
        assertEquals(List.of(200, 530), List.of(get("/identity").statusCode(), get("/identity").statusCode()).stream().sorted().toList());
    }

    @Test
    void aStoppedPlexIs502UntilItIsBack() {
        connect(EdgeWorld.Kind.SCRIPT);
        world.plexStop();
        assertEquals(502, get("/identity").statusCode());
        world.plexStart();
        assertEquals(200, get("/identity").statusCode());
    }

    @ParameterizedTest
    @EnumSource
    void twoDaemonsAreListedAsTwoAndNoneOfAnotherWorld(EdgeWorld.Kind kind) {
        long first = connect(kind);
        try (EdgeWorld other = EdgeWorld.open(kind)) {
            long second = world.startDaemon();
            long stranger = other.startDaemon();
            assertEquals(List.of(first, second).stream().sorted().toList(), world.daemons());
            assertEquals(List.of(stranger), other.daemons());
        }
        assertEquals(2, world.daemons().size());
    }

    @Test
    void aRefusedStartSaysWhyAndTheNextOneSucceeds() {
        world = EdgeWorld.open(EdgeWorld.Kind.NATIVE);
        world.refuseToStart();
        world.startDaemon();
        EdgeWorld.await("the daemon to give up", () -> world.daemons().isEmpty());
        assertTrue(world.log().contains("ERR Couldn't start tunnel error=\"tunnel credentials file not found\""), world.log());
        world.startDaemon();
        world.awaitConnected();
        assertEquals(200, get("/identity").statusCode());
    }

    @Test
    void aSlowDaemonRunsBeforeItIsConnected() throws Exception {
        world = EdgeWorld.open(EdgeWorld.Kind.SCRIPT);
        world.slowStart(3600);
        world.startDaemon();
        EdgeWorld.await("the daemon to come up", () -> world.log().contains("INF Starting tunnel"));
        assertNoTunnel();
        assertEquals(1, world.daemons().size());
        world.slowStart(0.1);
        world.killDaemons();
        world.startDaemon();
        world.awaitConnected();
    }

    @Test
    void daemonsReconnectWhenTheEdgeIsBack() {
        connect(EdgeWorld.Kind.SCRIPT);
        world.edgeStop();
        IOException refused = assertThrows(IOException.class, () -> ask(HttpRequest.newBuilder(), "/"));
        assertTrue(refused instanceof ConnectException, refused.toString());
        EdgeWorld.await("the daemon to notice", () -> world.log().contains("WRN Lost connection"));
        world.edgeStart();
        world.awaitConnected();
        assertEquals(200, get("/identity").statusCode());
    }

    @Test
    void aForcedAnswerHidesPlexUntilItIsTakenBack() throws Exception {
        connect(EdgeWorld.Kind.SCRIPT);
        world.force(524, "error code: 524");
        assertEquals("524 error code: 524", get("/identity").statusCode() + " " + get("/identity").body());
        world.force(null, null);
        assertEquals(200, get("/identity").statusCode());
        assertEquals(3, world.requests());
    }

    @Test
    void aRequestBodyIsRelayedToo() throws Exception {
        connect(EdgeWorld.Kind.SCRIPT);
        assertEquals(401, ask(HttpRequest.newBuilder().POST(BodyPublishers.ofString("x".repeat(50_000))), "/").statusCode());
    }

    private long connect(EdgeWorld.Kind kind) {
        world = EdgeWorld.open(kind);
        long pid = world.startDaemon();
        world.awaitConnected();
        return pid;
    }

    private void assertNoTunnel() {
        HttpResponse<String> answer = get("/identity");
        assertEquals("530 error code: 1033", answer.statusCode() + " " + answer.body());
    }

    private HttpResponse<String> get(String path) {
        try {
            return ask(HttpRequest.newBuilder(), path);
        } catch (IOException | InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    private HttpResponse<String> ask(HttpRequest.Builder request, String path) throws IOException, InterruptedException {
        return client.send(request.uri(URI.create(world.url() + path)).build(), BodyHandlers.ofString());
    }
}
