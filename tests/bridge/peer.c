/* A robot of CycloneDDS 0.10.2: hears commands, tells its state and battery, answers its motion service.
   Prints the knee's target once it has heard one, and goes on until it is killed. */
#include "dds/dds.h"
#include "peer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dds_entity_t topic(dds_entity_t on, const dds_topic_descriptor_t *kind, const char *name) {
  dds_entity_t made = dds_create_topic(on, kind, name, NULL, NULL);
  if (made < 0) { fprintf(stderr, "%s: %s\n", name, dds_strretcode(-made)); exit(3); }
  return made;
}

int main(int argc, char **argv) {
  dds_entity_t me = dds_create_participant((dds_domainid_t)atoi(argv[argc - 1]), NULL, NULL);
  dds_entity_t commands = dds_create_reader(me, topic(me, &unitree_hg_msg_dds__LowCmd__desc, "rt/lowcmd"), NULL, NULL);
  dds_entity_t states = dds_create_writer(me, topic(me, &unitree_hg_msg_dds__LowState__desc, "rt/lowstate"), NULL, NULL);
  dds_entity_t bms = dds_create_writer(me, topic(me, &unitree_hg_msg_dds__BmsState__desc, "rt/lf/bmsstate"), NULL, NULL);
  dds_entity_t asked = dds_create_reader(
      me, topic(me, &unitree_api_msg_dds__Request__desc, "rt/api/motion_switcher/request"), NULL, NULL);
  dds_entity_t answers = dds_create_writer(
      me, topic(me, &unitree_api_msg_dds__Response__desc, "rt/api/motion_switcher/response"), NULL, NULL);
  if (commands < 0 || states < 0 || bms < 0 || asked < 0 || answers < 0) return 3;
  static unitree_hg_msg_dds__LowState_ state;
  static unitree_hg_msg_dds__BmsState_ battery;
  battery.soc = 63;
  for (int n = 0, told = 0;; n++) {
    void *sample = NULL;
    dds_sample_info_t info;
    state.tick = (uint32_t)n; /* its CRC is wrong: the bridge must reject it */
    dds_write(states, &state);
    dds_write(bms, &battery);
    if (dds_take(commands, &sample, &info, 1, 1) > 0) {
      if (info.valid_data && !told++) {
        printf("%f\n", ((unitree_hg_msg_dds__LowCmd_ *)sample)->motor_cmd[3].q);
        fflush(stdout);
      }
      dds_return_loan(commands, &sample, 1);
    }
    sample = NULL;
    if (dds_take(asked, &sample, &info, 1, 1) > 0) {
      if (info.valid_data) {
        unitree_api_msg_dds__Request_ *request = sample;
        unitree_api_msg_dds__Response_ response;
        memset(&response, 0, sizeof response);
        response.header.identity.id = request->header.identity.id;
        response.header.identity.api_id = request->header.identity.api_id;
        response.data = "{\"form\": \"0\", \"name\": \"ai\"}";
        if (strcmp(request->parameter, "{}") == 0) dds_write(answers, &response);
      }
      dds_return_loan(asked, &sample, 1);
    }
    dds_sleepfor(DDS_MSECS(5));
  }
}
