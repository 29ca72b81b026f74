import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.concurrent.Executors;

import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * What tests/bench looks at, on 127.0.0.1: every path is the healthy page until `/break?status` or `/break?text` is
 * called; `/mend` and a restart heal it. Arguments: PORT PID_FILE START_MILLIS STOP_MILLIS [KEY_STORE PASSWORD].
 * The file with its process id is there from its start until the very end of its stop.
 */
final class BenchServer {

    /** As many as the connections that could wait for one of them; so the server is not what is measured. */
    private static final int THREADS = 64;
    private static final int WAITING_CONNECTIONS = 1024;

    private volatile String broken = "nothing";

    public static void main(String[] args) throws Exception {
        Path pidFile = Path.of(args[1]);
        Files.writeString(pidFile, ProcessHandle.current().pid() + "\n");
        Thread.sleep(Long.parseLong(args[2]));
        HttpServer server = args.length > 4 ? secure(Path.of(args[4]), args[5].toCharArray()) : HttpServer.create();
        stopSlowly(Long.parseLong(args[3]), pidFile);
        server.createContext("/", new BenchServer()::answer);
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
        server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0])), WAITING_CONNECTIONS);
        server.start();
    }

    private static HttpServer secure(Path file, char[] password) throws IOException, GeneralSecurityException {
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(file.toFile())) {
            keys.load(in, password);
        }
        KeyManagerFactory managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        managers.init(keys, password);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(managers.getKeyManagers(), null, null);
        HttpsServer server = HttpsServer.create();
        server.setHttpsConfigurator(new HttpsConfigurator(tls));
        return server;
    }

    private static void stopSlowly(long millis, Path pidFile) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                Thread.sleep(millis);
                Files.deleteIfExists(pidFile);
            } catch (InterruptedException | IOException e) {
                e.printStackTrace();
            }
        }));
    }

    private void answer(HttpExchange exchange) throws IOException {
        switch (exchange.getRequestURI().getPath()) {
            case "/break" -> broken = exchange.getRequestURI().getQuery();
            case "/mend" -> broken = "nothing";
            default -> { }
        }
        byte[] page = (broken.equals("text") ? "error code: 1033\n" : "<MediaContainer machineIdentifier=\"4711\"/>\n").getBytes(UTF_8);
        try (exchange) {
            exchange.sendResponseHeaders(broken.equals("status") ? 530 : 200, page.length);
            exchange.getResponseBody().write(page);
        }
    }
}
