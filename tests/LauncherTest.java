import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The script that `watchdog launcher` writes for cron, in folders whose names a careless script would trip over. */
class LauncherTest {
    @TempDir
    private static Path jbang;
    @TempDir
    private static Path place;
    private static Path checkout;
    /** As it was written first; every test calls a copy. */
    private static Path written;

    @TempDir
    private Path folder;
    private Path home, launcher;

    @BeforeAll
    static void aLauncherIsWritten() throws Exception {
        checkout = Files.createDirectory(place.toRealPath().resolve("it's $(touch run) here"));
        for (String file : List.of("watchdog.java", "jbangw"))
            Files.copy(Path.of(file), checkout.resolve(file), StandardCopyOption.COPY_ATTRIBUTES);
        written = checkout.resolve("for cron");
        Run run = run(checkout, place, Map.of(), "./jbangw", "watchdog.java", "launcher", "for cron", "--from", "watchdog.java");
        assertEquals(0, run.exit(), run.out() + run.err());
        assertEquals("wrote " + written + "; cron may call it in place of `jbang --offline " + checkout + "/watchdog.java`\n", run.out());
    }

    @BeforeEach
    void aServiceThatIsDown() throws IOException {
        home = Files.createDirectory(folder.toRealPath().resolve("its home"));
        launcher = Files.copy(written, home.resolve("don't run"));
        Files.writeString(home.resolve("rules.groovy"), """
            watch('it') {
                command 'test -e up'
                attempts 1
                restart { sh 'touch up' }
            }
            watch('the other one') {
                command 'test ! -e broken'
                attempts 1
            }
            """);
    }

    @Test
    void anyoneMayRunItAndOnlyItsOwnerMayChangeIt() throws IOException {
        assertEquals("rwxr-xr-x", java.nio.file.attribute.PosixFilePermissions.toString(Files.getPosixFilePermissions(written)));
        assertTrue(Files.readString(written).startsWith("#!/bin/sh\n"));
    }

    @Test
    void shellcheckHasNothingToSayOfIt() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/shellcheck")), "shellcheck is not installed");
        // SC2016 is about the $( ) in the name of this folder.
        assertEquals(new Run(0, "", ""), run(home, home, Map.of(), "/usr/bin/shellcheck", "--exclude=SC2016", written.toString()));
    }

    /** Twice: the first pass archives its classes, the second one uses them; neither has a word for cron to mail but its own. */
    @Test
    void inCronsBareEnvironmentItHealsAndIsQuietOnceAllIsWell() throws Exception {
        Run first = bare();
        assertEquals(0, first.exit(), first.err());
        assertTrue(first.out().startsWith("it             healed "), first.out());
        Run second = bare("--quiet");
        assertEquals(new Run(0, "", ""), second);
    }

    @Test
    void itRunsWhereJBangIsGone() throws Exception {
        Files.writeString(launcher, Files.readString(written).replaceAll("(?m)^jbang=.* from=", "jbang=/nowhere/jbang from="));
        Run run = bare();
        assertEquals(0, run.exit(), run.err());
        assertTrue(run.out().startsWith("it             healed "), run.out());
    }

    @Test
    void argumentsWithSpacesAndExitCodesPassThrough() throws Exception {
        Files.createFile(home.resolve("broken"));
        Run one = bare("--dry-run", "the other one");
        assertEquals(1, one.exit(), one.err());
        assertTrue(one.out().startsWith("the other one  unhealthy "), one.out());
        Run none = bare("check", "no $(touch run) one's");
        assertEquals(2, none.exit(), none.out());
        assertTrue(none.err().contains("no $(touch run) one's"), none.err());
        assertFalse(Files.exists(home.resolve("run")));
    }

    /** Through JBang once, with the environment that cron has; then directly again. */
    @Test
    void afterJBangsCacheWasCleanedItRunsThroughJBangAndWritesItselfAnew() throws Exception {
        String good = Files.readString(written);
        Files.writeString(launcher, good.replaceAll("(?m)^(jar|classpath)='[^:']*", "$1='/nowhere/watchdog.jar"));
        assertNotEquals(good, Files.readString(launcher));
        Run run = withJBang();
        assertEquals(0, run.exit(), run.out() + run.err());
        assertTrue(run.out().startsWith("it             healed "), run.out());
        assertEquals(good, Files.readString(launcher));
    }

    /** Here only who is asked counts, so a script that tells what it was asked stands in for JBang. */
    @ParameterizedTest(name = "{0}")
    @CsvSource(textBlock = """
        a moved Java,           (?m) java=.*,           ' java=/nowhere/java'
        a missing dependency,   /picocli-[0-9.]*jar,    /picocli-0.jar
        a missing script,       (?m)^source=.*,         source=/nowhere/watchdog.java""")
    void whateverIsGoneJBangIsAsked(String what, String named, String instead) throws Exception {
        Path asked = Files.writeString(home.resolve("jbang"), """
            #!/bin/sh
            printf '<%s>' "$@" >>"$HOME/asked"; echo >>"$HOME/asked"
            exit 3
            """);
        assertTrue(asked.toFile().setExecutable(true));
        String mine = Files.readString(written).replaceAll("(?m)^jbang=.* from=.* java=", "jbang=\"\\$HOME/jbang\" from=w@c java=");
        Files.writeString(launcher, mine.replaceAll(named, instead));
        assertNotEquals(mine, Files.readString(launcher), "the launcher has nothing like " + named);
        assertEquals(new Run(3, "", ""), bare("check", "the other one"));
        assertEquals("<--quiet><--offline><w@c><launcher><" + launcher + "><--from><w@c>\n<--offline><w@c><check><the other one>\n",
            Files.readString(home.resolve("asked")));
    }

    @Test
    void anEditOfTheScriptTakesEffectAtOnceAndTheNextPassIsDirectAgain() throws Exception {
        Path script = checkout.resolve("watchdog.java");
        String before = Files.readString(script);
        try {
            Files.writeString(script, before.replace("\"healed\"", "\"cured\""));
            Run edited = withJBang();
            assertEquals(0, edited.exit(), edited.out() + edited.err());
            assertTrue(edited.out().startsWith("it             cured "), edited.out());
            assertNotEquals(Files.readString(written), Files.readString(launcher));
            Files.writeString(launcher, Files.readString(launcher).replaceAll("(?m)^jbang=.* from=", "jbang=/nowhere/jbang from="));
            Files.delete(home.resolve("up"));
            Run direct = bare();
            assertEquals(0, direct.exit(), direct.err());
            assertTrue(direct.out().startsWith("it             cured "), direct.out());
        } finally {
            Files.writeString(script, before);
            Files.setLastModifiedTime(script, Files.getLastModifiedTime(Path.of("watchdog.java")));
        }
    }

    @ParameterizedTest
    @CsvSource({"no-such@watchdog-catalog, Unknown catalog 'watchdog-catalog'", "no-such.java, 'no-such.java'"})
    void aReferenceThatJBangDoesNotKnowIsToldInOneSentence(String reference, String why) throws Exception {
        Run run = run(checkout, place, Map.of(), "./jbangw", "--quiet", "watchdog.java", "launcher", "another", "--from", reference);
        assertEquals(2, run.exit(), run.err());
        assertTrue(run.err().startsWith("watchdog: cannot write a launcher: jbang does not know '" + reference + "'"), run.err());
        assertTrue(run.err().contains(why), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertFalse(Files.exists(checkout.resolve("another")));
    }

    /** All that cron sets. */
    private Run bare(String... words) throws Exception {
        return run(home, null, Map.of("HOME", home.toString(), "PATH", "/usr/bin:/bin"), call(words));
    }

    /** The same, told where this class keeps JBang and its cache, which a person's home has. */
    private Run withJBang(String... words) throws Exception {
        return run(home, home, Map.of(), call(words));
    }

    private String[] call(String... words) {
        return Stream.concat(Stream.of(launcher.toString()), Stream.of(words)).toArray(String[]::new);
    }

    /** {@code home} null: nothing is in the environment but {@code env}. */
    private static Run run(Path where, Path home, Map<String, String> env, String... words) throws Exception {
        Path out = Files.createTempFile(place, "out", ""), err = Files.createTempFile(place, "err", "");
        var builder = new ProcessBuilder(new ArrayList<>(List.of(words))).directory(where.toFile());
        builder.redirectOutput(out.toFile()).redirectError(err.toFile());
        Map<String, String> environment = builder.environment();
        if (home == null) environment.clear();
        else {
            environment.putIfAbsent("XDG_CACHE_HOME", System.getenv("HOME") + "/.cache");
            environment.put("HOME", home.toString());
            environment.put("JBANG_DIR", jbang.toString());
            environment.remove("XDG_STATE_HOME");
        }
        environment.putAll(env);
        int exit = builder.start().waitFor();
        return new Run(exit, Files.readString(out), Files.readString(err));
    }
}
