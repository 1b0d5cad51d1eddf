/* An Ethernet switch between tap devices that holds every frame back for a while.

     switch RATE_BIT_S DELAY_S NAMESPACE...

   makes a tap device eth0 in each of the named network namespaces, says "ready", and forwards frames until it is
   killed. Device k answers to hardware addresses that end in k, from 0. Each frame waits DELAY_S; then it takes its turn
   at the port it leaves by, which passes RATE_BIT_S after a burst of 128 KB and drops what would have to wait behind
   1 MB. The way in is limited by whoever set up the namespace (tbf on eth0). Large TCP segments cross whole and
   are counted as the frames they would be cut to, as the kernel's own shapers do. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PORTS = 64, LARGEST = 70000, HEADER = 10, BURST = 128 << 10, LIMIT = 1 << 20 };

struct frame {
    struct frame *next;
    double due;
    int port, length, on_wire;
    char bytes[];
};
struct queue {
    struct frame *first, **last;
};
struct port {
    int device;
    double paid_until; /* when everything let through so far has passed at the rate */
    struct queue leaving;
};

static struct port ports[MOST_PORTS];
static struct queue delayed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void append(struct queue *queue, struct frame *frame) {
    frame->next = NULL;
    *queue->last = frame;
    queue->last = &frame->next;
}

static struct frame *take(struct queue *queue) {
    struct frame *frame = queue->first;
    queue->first = frame->next;
    if (!queue->first) queue->last = &queue->first;
    return frame;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int device_in(const char *namespace, int home) {
    char path[300];
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    strcpy(request.ifr_name, "eth0");
    int there = open(path, O_RDONLY);
    if (there < 0 || setns(there, CLONE_NEWNET)) fail(path);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (device < 0 || ioctl(device, TUNSETIFF, &request)) fail("/dev/net/tun");
    if (ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)) fail("TUNSETOFFLOAD");
    close(there);
    if (setns(home, CLONE_NEWNET)) fail("setns");
    return device;
}

static int bytes_on_wire(const char *frame, int length) {
    const struct virtio_net_hdr *header = (const void *)frame;
    int bytes = length - HEADER;
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE || !header->gso_size) return bytes;
    int payload = bytes - header->hdr_len;
    int segments = (payload + header->gso_size - 1) / header->gso_size;
    return bytes + (segments - 1) * header->hdr_len;
}

static void arrive(const char *bytes, int length, int from, int count, double due) {
    int everybody = bytes[HEADER] & 1, address = (unsigned char)bytes[HEADER + 5];
    for (int to = 0; to < count; to++) {
        if (to == from || !(everybody || to == address)) continue;
        struct frame *frame = malloc(sizeof *frame + length);
        if (!frame) fail("malloc");
        frame->due = due, frame->port = to, frame->length = length;
        frame->on_wire = bytes_on_wire(bytes, length);
        memcpy(frame->bytes, bytes, length);
        append(&delayed, frame);
    }
}

/* Put a frame that has waited long enough into the queue of its port, or drop it if that is full. */
static void queue_up(struct frame *frame, double rate, double time) {
    struct port *port = &ports[frame->port];
    double oldest = time - BURST / rate;
    double from = port->paid_until > oldest ? port->paid_until : oldest;
    if ((from - time) * rate > LIMIT) {
        free(frame);
        return;
    }
    port->paid_until = from + frame->on_wire / rate;
    frame->due = port->paid_until;
    append(&port->leaving, frame);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 3 > MOST_PORTS) return fprintf(stderr, "switch RATE_BIT_S DELAY_S NAMESPACE...\n"), 2;
    double rate = atof(argv[1]) / 8, delay = atof(argv[2]);
    int count = argc - 3, home = open("/proc/self/ns/net", O_RDONLY);
    struct pollfd watched[MOST_PORTS];
    static char frame[LARGEST];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    delayed.last = &delayed.first;
    for (int k = 0; k < count; k++) {
        ports[k].device = device_in(argv[3 + k], home);
        ports[k].leaving.last = &ports[k].leaving.first;
        watched[k] = (struct pollfd){ports[k].device, POLLIN, 0};
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        double time = now(), next = delayed.first ? delayed.first->due : time + 1;
        for (int k = 0; k < count; k++)
            if (ports[k].leaving.first && ports[k].leaving.first->due < next) next = ports[k].leaving.first->due;
        double wait = next > time ? next - time : 0;
        struct timespec limit = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
        if (ppoll(watched, count, &limit, NULL) < 0 && errno != EINTR) fail("ppoll");
        time = now();
        for (int k = 0; k < count; k++)
            for (int length, n = 0; n < 16 && (length = read(ports[k].device, frame, sizeof frame)) > HEADER + 14; n++)
                arrive(frame, length, k, count, time + delay);
        while (delayed.first && delayed.first->due <= time) queue_up(take(&delayed), rate, time);
        for (int k = 0; k < count; k++)
            while (ports[k].leaving.first && ports[k].leaving.first->due <= time) {
                struct frame *leaves = take(&ports[k].leaving);
                if (write(ports[k].device, leaves->bytes, leaves->length) < 0 && errno != EAGAIN && errno != EIO)
                    fail("write");
                free(leaves);
            }
    }
}
