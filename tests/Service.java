import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A service on loopback that is well while a file says so: `touch NAME.up` starts it, which any remedy can do. Each run
 * of a remedy that appends a line to NAME.restarts is counted.
 */
final class Service implements AutoCloseable {
    private final Path folder;
    private final String name;
    private final HttpServer server;
    /** What it answers while it is down. */
    volatile int status = 530;
    volatile String body = "error code: 1033";
    /** What happens when it answers well again after it did not. */
    volatile Runnable whenBack = () -> { };
    private volatile boolean wasUp = true;

    Service(Path folder, String name) {
        this.folder = folder;
        this.name = name;
        try {
            server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        server.createContext("/", exchange -> {
            boolean up = up();
            if (up && !wasUp) whenBack.run();
            wasUp = up;
            byte[] answer = (up ? "ok" : body).getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(up ? 200 : status, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
    }

    String url() { return "http://127.0.0.1:" + server.getAddress().getPort() + "/"; }

    boolean up() { return Files.exists(flag()); }

    void start() {
        try {
            if (!up()) Files.createFile(flag());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    void stop() {
        try {
            Files.deleteIfExists(flag());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** How often a remedy has said that it ran. */
    int restarts() {
        Path counted = folder.resolve(name + ".restarts");
        try {
            return Files.exists(counted) ? Files.readAllLines(counted).size() : 0;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private Path flag() { return folder.resolve(name + ".up"); }

    @Override public void close() { server.stop(0); }
}
