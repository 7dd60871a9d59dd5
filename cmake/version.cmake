# The version comes from git: a tag vX.Y.Z makes "X.Y.Z", anything else is a development build.
# LITEFS_VERSION and LITEFS_COMMIT can be set by packagers who build from a tarball.
find_package(Git QUIET)
set(LITEFS_VERSION "" CACHE STRING "version shown by `litefs version`")
set(LITEFS_COMMIT "" CACHE STRING "commit shown by `litefs version`")
set(litefs_version "${LITEFS_VERSION}")
set(litefs_commit "${LITEFS_COMMIT}")
if(GIT_FOUND AND NOT litefs_version)
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --tags --exact-match --match "v*"
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE litefs_version
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(GIT_FOUND AND NOT litefs_commit)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse HEAD
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE litefs_commit
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
