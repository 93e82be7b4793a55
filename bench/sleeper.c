/* sleeper: a task that does nothing, in as little memory as a static program takes. */
#include <unistd.h>

int main(void)
{
    for (;;) (void)pause();
}
