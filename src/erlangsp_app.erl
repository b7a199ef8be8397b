%% The application: its tree holds what co-ops on this VM share. C-nodes and
%% co-ops belong to their users' supervisors; only the default C-node, started
%% when first needed, is one of ours.
-module(erlangsp_app).

-behaviour(application).

-export([start/2]).
-export([stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case esp_sup:start_link() of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, Reason} -> {error, Reason}
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
