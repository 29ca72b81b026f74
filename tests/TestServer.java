import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** An HTTP server on loopback: one function gives all answers, for many requests at the same time. */
final class TestServer implements AutoCloseable {
    /** More than the tests and tests/bench have connections waiting. */
    private static final int BACKLOG = 1024;

    /** May throw: then the connection is closed without an answer. */
    interface Handler { Answer answer(String path, String body) throws Exception; }

    record Answer(int status, String body, Map<String, String> headers) {
        Answer(int status, String body) { this(status, body, Map.of()); }
    }

    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool(TestServer::daemon);

    TestServer(Handler handler) { this(0, handler); }

    /** {@code port}: 0 for a free one. */
    TestServer(int port, Handler handler) { this(http(), port, handler); }

    private static HttpServer http() {
        try {
            return HttpServer.create();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** {@code server}: not yet bound, for example one with TLS. */
    TestServer(HttpServer server, int port, Handler handler) {
        this.server = server;
        server.setExecutor(threads);
        server.createContext("/", exchange -> {
            try (exchange) {
                String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
                Answer answer = handler.answer(exchange.getRequestURI().toString(), body);
                answer.headers.forEach(exchange.getResponseHeaders()::set);
                byte[] bytes = answer.body.getBytes(StandardCharsets.UTF_8);
                exchange.sendResponseHeaders(answer.status, bytes.length == 0 ? -1 : bytes.length);
                exchange.getResponseBody().write(bytes);
            } catch (Exception e) {
                throw new IOException(e);
            }
        });
        try {
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), BACKLOG);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        server.start();
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "test server");
        thread.setDaemon(true);
        return thread;
    }

    int port() { return server.getAddress().getPort(); }

    /** With a slash at its end. */
    String url() { return "http://127.0.0.1:" + port() + "/"; }

    @Override public void close() {
        server.stop(0);
        threads.shutdownNow();
    }
}
