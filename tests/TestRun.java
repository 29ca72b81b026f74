///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS org.junit.jupiter:junit-jupiter:5.14.4
//DEPS org.junit.platform:junit-platform-launcher:1.14.4
//DEPS com.squareup.okhttp3:mockwebserver3:5.5.1
//DEPS com.squareup.okhttp3:okhttp-tls:5.5.1
//SOURCES ../watchdog.java
//SOURCES ../tools/*.java
//SOURCES *.java

import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TimeZone;

import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestDescriptor;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Runs every class here whose name ends in Test and prints a line for each; .ci/run reads the last line. */
class TestRun implements TestExecutionListener {

    private static final int FRAMES_SHOWN = 8;

    /** Of one class, or of all. */
    private static final class Counts {
        private final long start = System.nanoTime();
        private int passed, failed, skipped;

        @Override public String toString() {
            return passed + " passed, " + failed + " failed"
                + (skipped > 0 ? ", " + skipped + " skipped" : "");
        }
    }

    private TestPlan plan;
    private final Counts total = new Counts();
    private final Map<TestIdentifier, Counts> classes = new HashMap<>();

    public static void main(String... words) throws Exception {
        // The tests compare printed times. It stays so: tests that run at the same time share it.
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        var run = new TestRun();
        LauncherFactory.create().execute(request(List.of(words)), run);
        System.out.println(run.total);
        // A thread or a server that a failed test left behind must not keep this process alive.
        System.exit(run.total.failed > 0 || run.total.passed == 0 ? 1 : 0);
    }

    /**
     * Classes run at the same time, each in one thread. Three, because two cores are usual, and the first
     * class, CronTest, only waits. A class that changes what all share needs @ResourceLock or
     * @Isolated.
     */
    private static LauncherDiscoveryRequest request(List<String> words) throws Exception {
        var here = Path.of(TestRun.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        return LauncherDiscoveryRequestBuilder.request()
                .selectors(DiscoverySelectors.selectClasspathRoots(Set.of(here)))
                .filters(ClassNameFilter.includeClassNamePatterns(".*Test"), chosenBy(words))
                .configurationParameter("junit.jupiter.execution.parallel.enabled", "true")
                .configurationParameter("junit.jupiter.execution.parallel.mode.default", "same_thread")
                .configurationParameter("junit.jupiter.execution.parallel.mode.classes.default", "concurrent")
                .configurationParameter("junit.jupiter.execution.parallel.config.strategy", "fixed")
                .configurationParameter("junit.jupiter.execution.parallel.config.fixed.parallelism", "3")
                .configurationParameter("junit.jupiter.testclass.order.default",
                        "org.junit.jupiter.api.ClassOrderer$OrderAnnotation")
                // No test takes this long: a test that hangs fails by name and does not stop the whole run.
                .configurationParameter("junit.jupiter.execution.timeout.default", "5 m")
                .build();
    }

    /** Chooses methods; JUnit drops a class by itself when none of its methods is left. */
    private static PostDiscoveryFilter chosenBy(List<String> words) {
        return test -> FilterResult.includedIf(words.isEmpty() || method(test).map(name ->
                words.stream().anyMatch(name::contains)).orElse(true));
    }

    private static Optional<String> method(TestDescriptor test) {
        return test.getSource().filter(MethodSource.class::isInstance).map(MethodSource.class::cast)
                .map(source -> source.getClassName() + "." + source.getMethodName());
    }

    @Override
    public void testPlanExecutionStarted(TestPlan plan) {
        this.plan = plan;
    }

    @Override
    public synchronized void executionStarted(TestIdentifier test) {
        if (isTopLevelClass(test)) classes.put(test, new Counts());
    }

    @Override
    public synchronized void executionSkipped(TestIdentifier test, String reason) {
        long tests = plan.getDescendants(test).stream().filter(TestIdentifier::isTest).count();
        if (test.isTest()) tests++;
        total.skipped += tests;
        countsOf(test).skipped += tests;
        System.out.println("  skipped " + nameOf(test) + ": " + reason);
    }

    @Override
    public synchronized void executionFinished(TestIdentifier test, TestExecutionResult result) {
        switch (result.getStatus()) {
            case SUCCESSFUL -> {
                if (test.isTest()) countPassed(test);
            }
            case ABORTED -> executionSkipped(test,
                    result.getThrowable().map(Throwable::getMessage).orElse("aborted"));
            case FAILED -> {
                total.failed++;
                countsOf(test).failed++;
                System.out.println("  FAILED " + nameOf(test));
                result.getThrowable().ifPresent(TestRun::print);
            }
        }
        if (isTopLevelClass(test)) System.out.println(line(test));
    }

    private void countPassed(TestIdentifier test) {
        total.passed++;
        countsOf(test).passed++;
    }

    /** A class that is skipped never starts. */
    private Counts countsOf(TestIdentifier test) {
        TestIdentifier at = test;
        while (!isTopLevelClass(at) && plan.getParent(at).isPresent()) at = plan.getParent(at).get();
        return classes.computeIfAbsent(at, unstarted -> new Counts());
    }

    private boolean isTopLevelClass(TestIdentifier test) {
        return plan.getParent(test).map(parent -> plan.getRoots().contains(parent)).orElse(false);
    }

    private String nameOf(TestIdentifier test) {
        var parent = plan.getParent(test).filter(above -> !plan.getRoots().contains(above));
        return parent.map(above -> nameOf(above) + " ").orElse("") + test.getDisplayName();
    }

    /** Without the frames of JUnit and Java; every class of ours is in the default package. */
    private static void print(Throwable thrown) {
        System.out.println("    " + thrown.toString().replace("\n", "\n    "));
        Arrays.stream(thrown.getStackTrace()).filter(frame -> !frame.getClassName().contains("."))
                .limit(FRAMES_SHOWN).forEach(frame -> System.out.println("      at " + frame));
        if (thrown.getCause() != null) {
            System.out.println("    caused by");
            print(thrown.getCause());
        }
    }

    private String line(TestIdentifier testClass) {
        Counts counts = countsOf(testClass);
        double seconds = (System.nanoTime() - counts.start) / 1e9;
        return "%-24s %s, %.1f s".formatted(testClass.getDisplayName(), counts, seconds);
    }
}
