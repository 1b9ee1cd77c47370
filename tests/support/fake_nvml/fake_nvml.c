/* A library with NVML's names that plays a recorded power curve, for machines without a GPU.

   FAKE_NVML_CURVE    file of "seconds,watts" lines, played from the first nvmlInit, linear between, the last held
   FAKE_NVML_PERIOD_S how often the counter and the power move (NVML: 20 to 100 ms)
   FAKE_NVML_LAG_S    how long after it was drawn the counter counts energy, at an update
   FAKE_NVML_COUNT    devices; each plays the same curve
   FAKE_NVML_POWER    a factor on the power, to make it disagree with the counter
   FAKE_NVML_CLOCK    a file of 8 bytes, a double: seconds to use in place of the clock; for tests without waiting
   FAKE_NVML_RESET_S  when the counter starts again from 0

   The counter is the integral of the curve up to the last update, less the lag, in whole millijoules; the instant power is that
   of the update, the average power the mean of the last second, in milliwatts, as NVML's are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SUCCESS 0
#define NOT_SUPPORTED 3
#define MOST 100000

typedef struct { int index; } Device;
typedef struct {
  unsigned int fieldId, scopeId;
  long long timestamp, latencyUsec;
  int valueType, nvmlReturn;
  union { double d; unsigned int ui; unsigned long long ull; long long sll; } value;
} FieldValue;

static double at[MOST], watts[MOST], joules[MOST];
static int points = 0;
static double begun = -1.0, period = 0.1, lag = 0.0, factor = 1.0, reset = INFINITY;
static unsigned int count = 1;
static const char *clock_file = NULL;
static Device devices[16];

static double now(void) {
  if (clock_file) {
    double seconds = 0.0;
    FILE *file = fopen(clock_file, "rb");
    if (file) {
      if (fread(&seconds, sizeof seconds, 1, file) != 1) seconds = 0.0;
      fclose(file);
    }
    return seconds;
  }
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static double number(const char *name, double otherwise) {
  const char *text = getenv(name);
  return text ? atof(text) : otherwise;
}

int nvmlInitWithFlags(unsigned int flags) {
  (void)flags;
  if (begun >= 0.0) return SUCCESS;
  const char *curve = getenv("FAKE_NVML_CURVE");
  FILE *file = curve ? fopen(curve, "r") : NULL;
  if (!file) return 9; /* driver not loaded */
  while (points < MOST && fscanf(file, "%lf,%lf", &at[points], &watts[points]) == 2) {
    joules[points] = points ? joules[points - 1] + (at[points] - at[points - 1]) * (watts[points] + watts[points - 1]) / 2 : 0.0;
    points++;
  }
  fclose(file);
  period = number("FAKE_NVML_PERIOD_S", 0.1);
  lag = number("FAKE_NVML_LAG_S", 0.0);
  factor = number("FAKE_NVML_POWER", 1.0);
  reset = number("FAKE_NVML_RESET_S", INFINITY);
  count = (unsigned int)number("FAKE_NVML_COUNT", 1);
  clock_file = getenv("FAKE_NVML_CLOCK");
  for (unsigned int i = 0; i < 16; i++) devices[i].index = (int)i;
  begun = now();
  return points ? SUCCESS : 9;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }

static double updated(void) { return floor((now() - begun) / period) * period; }

/* energy and power of the curve at a time since the beginning */
static void curve_at(double t, double *energy, double *power) {
  if (t <= at[0]) { *energy = watts[0] * t; *power = watts[0]; return; }
  int low = 0, high = points - 1;
  if (t >= at[high]) { *energy = joules[high] + watts[high] * (t - at[high]); *power = watts[high]; return; }
  while (high - low > 1) { int middle = (low + high) / 2; if (at[middle] <= t) low = middle; else high = middle; }
  double part = (t - at[low]) / (at[high] - at[low]);
  *power = watts[low] + part * (watts[high] - watts[low]);
  *energy = joules[low] + (t - at[low]) * (watts[low] + *power) / 2;
}

int nvmlDeviceGetCount_v2(unsigned int *n) { *n = count; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
  if (index >= count) return 2;
  *device = &devices[index];
  return SUCCESS;
}
int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
  (void)device;
  strncpy(name, "NVIDIA Fake 100", length);
  return SUCCESS;
}
int nvmlDeviceGetC2cModeInfoV(void *device, void *info) { (void)device; (void)info; return NOT_SUPPORTED; }
int nvmlDeviceGetArchitecture(void *device, unsigned int *arch) { (void)device; *arch = 9; return SUCCESS; }

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
  (void)device;
  double energy, power, t = updated(), before = 0.0;
  curve_at(t - lag, &energy, &power);
  if (t >= reset) { curve_at(reset, &before, &power); energy -= before; }
  else energy += 5e6; /* since the driver was loaded */
  *mj = (unsigned long long)(energy * 1e3);
  return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *device, int n, FieldValue *values) {
  (void)device;
  for (int i = 0; i < n; i++) {
    double energy, power, earlier, ignored, t = updated();
    curve_at(t, &energy, &power);
    values[i].nvmlReturn = SUCCESS;
    values[i].valueType = 1;
    if (values[i].fieldId == 185) { /* average */
      curve_at(t - 1.0, &earlier, &ignored);
      power = energy - earlier;
    } else if (values[i].fieldId != 186) { /* instant */
      values[i].nvmlReturn = NOT_SUPPORTED;
      continue;
    }
    values[i].value.ui = (unsigned int)(factor * power * 1e3);
  }
  return SUCCESS;
}
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Fake Error"; }
