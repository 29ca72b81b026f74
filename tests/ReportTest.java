import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The page of tools/report.java. It is read as XML: a tag that a server sent would show. */
class ReportTest {
    @TempDir Path folder;
    private final MutableClock clock = new MutableClock(Instant.parse("2026-03-01T08:00:00Z"));
    private TestFolder home;
    private Service plex;

    @BeforeEach void twoWatches() {
        home = new TestFolder(folder).env("TOKEN", "hidden-token");
        home.clock = clock;
        plex = new Service(folder, "plex");
        plex.start();
        home.rules("""
            def token = secret('TOKEN')
            watch('plex') {
                url '%s'
                healthy { body == 'ok' }
                attempts 1
                within 50.milliseconds
                restart { run 'echo secret-command' }
            }
            watch('disk') { command 'test ! -e full'; attempts 1 }
            """.formatted(plex.url()));
    }

    @AfterEach void close() { plex.close(); }

    /** One pass, five minutes later. */
    private void pass() {
        home.watchdog();
        clock.add(Duration.ofMinutes(5));
    }

    private Document page(String... options) throws Exception {
        home.watchdog(Stream.concat(Stream.of("report", "page.html"), Stream.of(options))
            .toArray(String[]::new)).exits(0);
        String html = Files.readString(folder.resolve("page.html")).replace("<!DOCTYPE html>", "");
        return DocumentBuilderFactory.newInstance().newDocumentBuilder()
            .parse(new ByteArrayInputStream(html.getBytes(StandardCharsets.UTF_8)));
    }

    private static List<String> texts(Document page, String tag) {
        return elements(page, tag)
            .map(element -> element.getTextContent().strip().replace('\u00a0', ' ')).toList();
    }

    private static Stream<Element> elements(Document page, String tag) {
        var nodes = page.getElementsByTagName(tag);
        return IntStream.range(0, nodes.getLength()).mapToObj(i -> (Element) nodes.item(i));
    }

    private static String all(Document page) { return page.getDocumentElement().getTextContent(); }

    private void assertBanner(String words) throws Exception {
        Document page = page();
        assertEquals(List.of(words), texts(page, "h1"));
        assertEquals(words, texts(page, "title").get(0));
        assertFalse(Files.readString(folder.resolve("page.html")).contains("<title><"));
    }

    @Test void theBannerSaysTheGravest() throws Exception {
        assertBanner("No pass yet");
        pass();
        assertBanner("All 2 services are healthy");
        home.watchdog("pause", "disk");
        pass();
        assertBanner("disk is paused");
        home.watchdog("resume", "disk");
        plex.stop();
        pass();
        assertBanner("plex is down since 08:10 (5 min)");
        home.file("full", "");
        pass();
        assertBanner("plex and disk are down");
        home.file(folder.relativize(home.state()) + "/schedule", "300");
        clock.add(Duration.ofHours(1));
        assertBanner("watchdog is not running");
    }

    /** It is neither paused nor known to be healthy. */
    @Test void aResumedWatchIsNotCheckedYet() throws Exception {
        for (String watch : List.of("plex", "disk")) home.watchdog("pause", watch);
        pass();
        for (String watch : List.of("plex", "disk")) home.watchdog("resume", watch);
        assertBanner("plex and disk are not checked yet");
        assertTrue(texts(page(), "p").contains("not checked yet"));
        home.watchdog("pause", "disk");
        pass();
        assertBanner("disk is paused");
        home.watchdog("resume", "disk");
        assertBanner("plex is healthy");
    }

    @Test void aPausedWatchShowsUntilWhen() throws Exception {
        pass();
        home.watchdog("pause", "plex");
        home.watchdog("pause", "disk", "--for", "2h");
        List<String> texts = texts(page(), "p");
        assertTrue(texts.contains("paused until it is resumed"), texts.toString());
        assertTrue(texts.contains("paused until 10:05"), texts.toString());
    }

    @Test void anOutageIsABarAndAnIncident() throws Exception {
        for (int i = 0; i < 3; i++) pass();
        plex.stop();
        pass();
        plex.start();
        pass();
        home.file(folder.relativize(home.state()) + "/schedule", "300");
        Document page = page();
        List<String> days = elements(page, "svg").map(svg -> svg.getAttribute("aria-label"))
            .filter(label -> label.contains("90 days")).toList();
        assertEquals(List.of("The last 90 days: outages in 1 of 90 bars",
            "The last 90 days: outages in 0 of 90 bars"), days);
        assertTrue(texts(page, "title").contains("1 Mar: 50 % up"), texts(page, "title").toString());
        assertTrue(texts(page, "title").contains("28 Feb: no data"));
        assertEquals(List.of("plex was found down; healthy after 5 min 08:15"), texts(page, "h3"));
        String incident = texts(page, "li").get(0);
        assertTrue(incident.matches("(?s).*Last seen healthy at 2026-03-01 08:10\\. Restarting it: "
            + "run 'echo secret-command'\\..*08:20: plex is healthy again.*"), incident);
        assertTrue(all(page).contains("As of 08:20, next by 08:25. If this page is older than 15 min"));
    }

    @Test void whatAServerSendsStaysText() throws Exception {
        plex.body = "</p><script>alert(1)</script>hidden-token";
        plex.stop();
        pass();
        Document page = page();
        assertEquals(List.of(), texts(page, "script"));
        assertTrue(all(page).contains("<script>alert(1)</script>"), all(page));
        assertFalse(all(page).contains("hidden-token"));
    }

    @Test void itLoadsNothing() throws Exception {
        pass();
        Document page = page();
        List<String> links = elements(page, "*").flatMap(element -> Stream.of("src", "href", "srcset")
            .map(element::getAttribute)).filter(link -> !link.isEmpty() && !link.startsWith("#")).toList();
        assertEquals(List.of("data:,"), links);
        assertFalse(texts(page, "style").get(0).matches("(?s).*(url\\(|@import).*"));
    }

    @Test void whatComesAndGoesAndIsHealthyNowIsNotShownAsDown() throws Exception {
        for (int i = 0; i < 2; i++) {
            plex.stop();
            pass();
            plex.start();
            pass();
        }
        Document page = page();
        assertEquals(List.of("plex came and went for 15 min 08:00"), texts(page, "h3"));
        assertTrue(all(page).contains("08:15: plex is healthy again."), all(page));
    }

    @Test void thePublicPageTellsOnlyWhatAndWhen() throws Exception {
        plex.body = "private words";
        plex.stop();
        pass();
        home.env("WATCHDOG_HOST", "this-machine");
        String mine = all(page()), theirs = all(page("--public"));
        for (String secret : List.of("private words", "secret-command", "expected", "this-machine")) {
            assertTrue(mine.contains(secret), secret);
            assertFalse(theirs.contains(secret), secret);
        }
        assertTrue(theirs.contains("plex is down since 08:00"));
    }

    @Test void theLatencyIsThatOfHealthyChecks() throws Exception {
        pass();
        StringBuilder lines = new StringBuilder();
        for (int i = 1; i <= 20; i++) lines.append("{'':%d,'plex':'h%d 9','disk':'u9999'}\n"
            .formatted(clock.instant().getEpochSecond() - 300 * i, i * 10).replace('\'', '"'));
        home.file(folder.relativize(home.state()) + "/history.jsonl", lines.toString());
        List<String> facts = texts(page(), "dd");
        assertTrue(facts.contains("median 100 ms, 95 % within 190 ms"), facts.toString());
        assertTrue(facts.contains("9 days left"), facts.toString());
        assertFalse(facts.toString().contains("9999"));
    }

    @Test void itsPermissionsAreKept() throws Exception {
        Path page = folder.resolve("page.html");
        for (String mode : List.of("rw-------", "rw-r-----")) {
            page();
            assertEquals(mode, PosixFilePermissions.toString(Files.getPosixFilePermissions(page)));
            Files.setPosixFilePermissions(page, PosixFilePermissions.fromString("rw-r-----"));
        }
        Files.delete(page);
        page("--public");
        assertEquals("rw-r--r--", PosixFilePermissions.toString(Files.getPosixFilePermissions(page)));
    }

    @Test void itSaysWhatItWrote() {
        Path page = folder.resolve("page.html");
        assertEquals("wrote    " + page + "\n", home.watchdog("report", "page.html").out());
        assertEquals("", home.watchdog("report", "page.html", "--quiet").out());
        assertEquals(Map.of("wrote", List.of(page.toString()), "problems", List.of(), "exit", 0),
            home.watchdog("report", "page.html", "--json").json());
    }

    @Test void aMissingFolderIsAMistakeAndIsNotMade() {
        home.watchdog("report", "no/page.html").exits(2)
            .errs("watchdog: there is no folder " + folder + "/no; make it with mkdir");
        assertFalse(Files.exists(folder.resolve("no")));
        home.watchdog("report", ".").exits(2).errs(folder + " is a folder; name a file");
        home.watchdog("report").exits(2).errs("FILE");
    }
}
