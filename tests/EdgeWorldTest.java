import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What TunnelTest and CronTest rely on: EdgeWorld behaves as the real services do. */
class EdgeWorldTest {
    private final HttpClient client =
        HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private EdgeWorld world;

    @AfterEach
    void close() { world.close(); }

    @ParameterizedTest
    @EnumSource
    void thePagesOfPlexComeThroughTheDaemonOnly(EdgeWorld.Kind kind) throws Exception {
        open(kind);
        assertEquals("530 error code: 1033", answer("/identity"));
        connect();
        assertTrue(answer("/identity").matches("200 .*machineIdentifier=\"0123abcd\".*"));
        assertTrue(answer("/").matches("401 .*<h1>401 Unauthorized</h1>.*"));
        world.plexStop();
        assertEquals("502 error code: 502", answer("/identity"));
    }

    @ParameterizedTest
    @EnumSource
    void theProcessTableShowsTheDaemonAsItsKindSays(EdgeWorld.Kind kind) {
        open(kind);
        ProcessHandle.Info info = ProcessHandle.of(connect()).orElseThrow().info();
        String program = world.bin().resolve("test-tunnel").toString();
        boolean script = kind == EdgeWorld.Kind.SCRIPT;
        assertTrue(info.command().orElseThrow().endsWith(script ? "/perl" : program), info.toString());
        assertEquals(script ? List.of(program, "tunnel", "run") : List.of("tunnel", "run"),
            List.of(info.arguments().orElseThrow()));
    }

    @ParameterizedTest
    @EnumSource
    void aHungDaemonIgnoresSigtermButNotSigkill(EdgeWorld.Kind kind) throws Exception {
        open(kind);
        long pid = connect();
        world.hang();
        ProcessHandle.of(pid).orElseThrow().destroy();
        assertEquals("530 error code: 1033", answer("/identity"));   // by now the signal has arrived
        assertEquals(List.of(pid), world.daemons());
        world.killDaemons();
        assertEquals(List.of(), world.daemons());
    }

    @Test
    void ofTwoDaemonsTheHungOneFailsHalfOfTheRequests() throws Exception {
        open(EdgeWorld.Kind.SCRIPT);
        connect();
        world.hang();
        connect();
        String two = answer("/identity").substring(0, 3) + " " + answer("/identity").substring(0, 3);
        assertTrue(two.equals("200 530") || two.equals("530 200"), two);
    }

    private void open(EdgeWorld.Kind kind) { world = EdgeWorld.open(kind, "test-tunnel"); }

    private long connect() {
        long pid = world.startDaemon();
        world.awaitConnected();
        return pid;
    }

    private String answer(String path) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(world.url() + path)).build();
        HttpResponse<String> response = client.send(request, BodyHandlers.ofString());
        return response.statusCode() + " " + response.body();
    }
}
